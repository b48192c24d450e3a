"""How far a job is, as a bar on a terminal and as a line every ten seconds elsewhere."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Protocol, Self

from freezeframe.pipeline.support.units import clock

EVERY = 10.0  # seconds between two lines
WIDTH, ROWS = 80, 24  # of a terminal that does not say how large it is
BLINK = 1.0  # seconds between two looks at the clock of a bar
KNOWN = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"  # where the work says what remains


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How far one stage of a job is. Rate and remaining time count only what this run has done."""

    stage: str  # in words; empty for the work itself
    before: int  # done by an earlier run
    done: int
    total: int | None
    seconds: float  # since the stage began
    left: float | None = None  # seconds that remain, where the work itself knows, as of `told`
    told: float = 0.0  # seconds after the beginning

    @property
    def rate(self) -> float:
        """Units per second."""
        return (self.done - self.before) / self.seconds if self.seconds > 0 else 0.0

    @property
    def remaining(self) -> float | None:
        """Seconds; None where nothing tells. Frames differ in work: what the work itself says comes first."""
        if self.left is not None:
            left = self.left - (self.seconds - self.told)
            return left if left > 0 else None  # it takes longer than was thought
        if not self.total or not self.rate or self.done >= self.total:
            return None
        return (self.total - self.done) / self.rate

    def text(self, *, unit: str) -> str:
        """Such as `120 of 750 frames (16 %) in 00:30, 4.0 frames/s, 02:38 left`."""
        # What a header promises is not always what comes.
        total = self.total if self.total is None or self.total >= self.done else None
        count = _count(self.done, total, "" if self.stage else unit)
        parts = [f"{self.stage + ': ' * bool(self.stage)}{count} in {clock(self.seconds)}"]
        if not self.stage and self.rate and self.seconds >= 1:
            parts.append(_rate(self.rate, unit))
        if self.remaining is not None:
            parts.append(f"{clock(self.remaining)} left")
        return ", ".join(parts)


def _count(done: int, total: int | None, unit: str) -> str:
    if unit == "B":
        sizes = [f"{part / 1e6:.1f}" for part in (done, total) if part is not None]
        what = " of ".join(sizes) + " MB"
    else:
        what = f"{done} of {total}" if total is not None else str(done)
        what += f" {unit}s" * bool(unit)
    return f"{what} ({100 * done // total} %)" if total else what


def _rate(rate: float, unit: str) -> str:
    if unit == "B":
        return f"{rate / 1e6:.1f} MB/s"
    return f"{rate:.1f} {unit}s/s" if rate >= 1 else f"{1 / rate:.1f} s/{unit}"


class Shown(Protocol):
    """Where progress is shown."""

    def show(self, pace: Pace) -> None:
        """The clock went on."""

    def end(self, pace: Pace) -> None:
        """A stage or the whole work is done."""


class Lines:
    """Lines for a pipe or a log file."""

    def __init__(self, name: str, unit: str, say: Callable[[str], None]) -> None:
        self._name, self._unit, self._say = name, unit, say

    def show(self, pace: Pace) -> None:
        """A line for where the work is."""
        self._say(f"{self._name}: {pace.text(unit=self._unit)}")

    def end(self, pace: Pace) -> None:
        """A line for the work itself; stages that are over need none."""
        if not pace.stage:
            self.show(pace)


class Bars:
    """A bar for whoever sits at a terminal."""

    def __init__(self, name: str, unit: str) -> None:
        self._name, self._unit = name, unit
        self._line: Any = None

    def show(self, pace: Pace) -> None:
        """The bar as it is now."""
        line = self._line = self._line or self._drawn(pace)
        line.start_t = time.time() - pace.seconds
        line.total = pace.total
        line.n = pace.done
        if pace.left is not None and pace.remaining is not None:
            line.bar_format = KNOWN
            line.set_postfix_str(f"{clock(pace.remaining)} left", refresh=False)
        line.refresh()

    def end(self, pace: Pace) -> None:
        """The bar at its end; that of a stage goes away."""
        self.show(pace)
        self._line.close()
        self._line = None

    def _drawn(self, pace: Pace) -> Any:
        from tqdm import tqdm

        staged = bool(pace.stage)
        sized = os.get_terminal_size(sys.stderr.fileno()).columns > 0
        return tqdm(
            desc=": ".join(filter(None, (self._name, pace.stage))), unit="part" if staged else self._unit,
            initial=pace.before, total=pace.total, file=sys.stderr, leave=not staged,
            dynamic_ncols=sized, ncols=None if sized else WIDTH, nrows=None if sized else ROWS,
            unit_scale=self._unit == "B" and not staged, smoothing=0,
        )  # fmt: skip


class Meter:
    """Takes progress as it comes and shows it, also while nothing comes."""

    def __init__(self, shown: Shown, *, every: float) -> None:
        self._shown, self._every = shown, every
        self._pace: Pace | None = None
        self._begun = 0.0
        self._lock, self._over = threading.Lock(), threading.Event()
        self._clock = threading.Thread(target=self._tick, daemon=True)

    def __call__(self, done: int, total: int | None, stage: str = "", left: float | None = None, /) -> None:
        """See `progress.Advance`."""
        with self._lock:
            if self._pace is None or self._pace.stage != stage:
                self._close()
                self._begun = time.monotonic()
                self._pace = Pace(stage=stage, before=done, done=done, total=total, seconds=0.0)
            else:
                self._pace = replace(self._pace, done=self._pace.done + done, total=total)
            self._pace = replace(self._pace, left=left, told=time.monotonic() - self._begun)

    def __enter__(self) -> Self:
        self._clock.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._clock.join()
        # What failed says so itself, in a sentence.
        if kind is None or isinstance(self._shown, Bars):
            self._close()

    def _tick(self) -> None:
        while not self._over.wait(self._every):
            with self._lock:
                if self._pace is not None:
                    self._shown.show(self._now(self._pace))

    def _now(self, pace: Pace) -> Pace:
        return replace(pace, seconds=time.monotonic() - self._begun)

    def _close(self) -> None:
        if self._pace is not None:
            self._shown.end(self._now(self._pace))
            self._pace = None
