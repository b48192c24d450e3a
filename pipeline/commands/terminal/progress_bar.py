"""Progress of a job: a bar on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Protocol, Self

from freezeframe.pipeline.support.text.units import format_clock

LOG_INTERVAL_S = 10.0  # seconds between two lines
WIDTH, ROWS = 80, 24  # columns and rows of a terminal of unknown size
REFRESH_INTERVAL_S = 1.0  # seconds between two updates of a bar
ETA_FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"  # with the caller's own remaining time


@dataclass(frozen=True, slots=True, kw_only=True)
class StageProgress:
    """Progress of one stage of a job. Rate and remaining time count the units of this run only."""

    stage: str  # name of a preparation stage; empty for the main work
    initial: int  # units completed by an earlier run
    completed: int
    total: int | None
    seconds: float  # since the stage began
    eta: float | None = None  # remaining seconds as estimated by the caller at `eta_time`
    eta_time: float = 0.0  # seconds since the stage began

    @property
    def rate(self) -> float:
        """Units per second."""
        return (self.completed - self.initial) / self.seconds if self.seconds > 0 else 0.0

    @property
    def remaining(self) -> float | None:
        """Remaining seconds; None if unknown. Frames differ in work, so the caller's estimate comes first."""
        if self.eta is not None:
            eta = self.eta - (self.seconds - self.eta_time)
            return eta if eta > 0 else None  # the estimate was too low
        if not self.total or not self.rate or self.completed >= self.total:
            return None
        return (self.total - self.completed) / self.rate

    def text(self, *, unit: str) -> str:
        """One line: `120 of 750 frames (16 %) in 00:30, 4.0 frames/s, 02:38 left`."""
        # The frame count of a header may be wrong.
        total = self.total if self.total is None or self.total >= self.completed else None
        count = _count(self.completed, total, "" if self.stage else unit)
        parts = [f"{self.stage + ': ' * bool(self.stage)}{count} in {format_clock(self.seconds)}"]
        if not self.stage and self.rate and self.seconds >= 1:
            parts.append(_rate(self.rate, unit))
        if self.remaining is not None:
            parts.append(f"{format_clock(self.remaining)} left")
        return ", ".join(parts)


def _count(completed: int, total: int | None, unit: str) -> str:
    if unit == "B":
        sizes = [f"{part / 1e6:.1f}" for part in (completed, total) if part is not None]
        count = " of ".join(sizes) + " MB"
    else:
        count = f"{completed} of {total}" if total is not None else str(completed)
        count += f" {unit}s" * bool(unit)
    return f"{count} ({100 * completed // total} %)" if total else count


def _rate(rate: float, unit: str) -> str:
    if unit == "B":
        return f"{rate / 1e6:.1f} MB/s"
    return f"{rate:.1f} {unit}s/s" if rate >= 1 else f"{1 / rate:.1f} s/{unit}"


class ProgressDisplay(Protocol):
    """Displays progress."""

    def show(self, progress: StageProgress) -> None:
        """Update the display."""

    def end(self, progress: StageProgress) -> None:
        """Show the end of a stage or of the main work."""


class LineDisplay:
    """Lines for a pipe or a log file."""

    def __init__(self, name: str, unit: str, write_line: Callable[[str], None]) -> None:
        self._name, self._unit, self._write_line = name, unit, write_line

    def show(self, progress: StageProgress) -> None:
        """Write one line."""
        self._write_line(f"{self._name}: {progress.text(unit=self._unit)}")

    def end(self, progress: StageProgress) -> None:
        """Write a last line for the main work; none for a preparation stage."""
        if not progress.stage:
            self.show(progress)


class BarDisplay:
    """A tqdm bar on a terminal."""

    def __init__(self, name: str, unit: str) -> None:
        self._name, self._unit = name, unit
        self._bar: Any = None

    def show(self, progress: StageProgress) -> None:
        """Redraw the bar."""
        bar = self._bar = self._bar or self._create_bar(progress)
        bar.start_t = time.time() - progress.seconds
        bar.total = progress.total
        bar.n = progress.completed
        if progress.eta is not None and progress.remaining is not None:
            bar.bar_format = ETA_FORMAT
            bar.set_postfix_str(f"{format_clock(progress.remaining)} left", refresh=False)
        bar.refresh()

    def end(self, progress: StageProgress) -> None:
        """Close the bar; the bar of a preparation stage is erased."""
        self.show(progress)
        self._bar.close()
        self._bar = None

    def _create_bar(self, progress: StageProgress) -> Any:
        from tqdm import tqdm

        is_stage = bool(progress.stage)
        has_size = os.get_terminal_size(sys.stderr.fileno()).columns > 0
        return tqdm(
            desc=": ".join(filter(None, (self._name, progress.stage))),
            unit="part" if is_stage else self._unit, unit_scale=self._unit == "B" and not is_stage,
            initial=progress.initial, total=progress.total, file=sys.stderr, leave=not is_stage,
            dynamic_ncols=has_size, ncols=None if has_size else WIDTH, nrows=None if has_size else ROWS,
            smoothing=0,
        )  # fmt: skip


class ProgressMeter:
    """Collects progress and shows it at regular intervals, also between two calls."""

    def __init__(self, display: ProgressDisplay, *, interval: float) -> None:
        self._display, self._interval = display, interval
        self._progress: StageProgress | None = None
        self._start_time = 0.0
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __call__(
        self, completed: int, total: int | None, stage: str = "", eta: float | None = None, /
    ) -> None:
        """See `support.progress.ProgressCallback`."""
        with self._lock:
            if self._progress is None or self._progress.stage != stage:
                self._close()
                self._start_time = time.monotonic()
                self._progress = StageProgress(
                    stage=stage, initial=completed, completed=completed, total=total, seconds=0.0
                )
            else:
                self._progress = replace(
                    self._progress, completed=self._progress.completed + completed, total=total
                )
            self._progress = replace(self._progress, eta=eta, eta_time=time.monotonic() - self._start_time)

    def __enter__(self) -> Self:
        self._ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._ticker.join()
        # A failure prints its own message.
        if kind is None or isinstance(self._display, BarDisplay):
            self._close()

    def _tick(self) -> None:
        while not self._closed.wait(self._interval):
            with self._lock:
                if self._progress is not None:
                    self._display.show(self._now(self._progress))

    def _now(self, progress: StageProgress) -> StageProgress:
        return replace(progress, seconds=time.monotonic() - self._start_time)

    def _close(self) -> None:
        if self._progress is not None:
            self._display.end(self._now(self._progress))
            self._progress = None
