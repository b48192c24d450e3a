"""Timing of functions."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


def seconds_of(run: Callable[[], object], *, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of one run, by wall clock unless another clock is given."""
    start_time = clock()
    run()
    return clock() - start_time


def best_interleaved(timers: Mapping[str, Callable[[], float]], *, rounds: int) -> dict[str, float]:
    """The smallest of several measurements of each timer, in seconds.

    Runs are interleaved, so that background load affects all candidates; the first round, which compiles and
    starts threads, does not count.
    """
    for timer in timers.values():
        timer()
    times = [{name: timer() for name, timer in timers.items()} for _ in range(rounds)]
    return {name: min(of_round[name] for of_round in times) for name in timers}
