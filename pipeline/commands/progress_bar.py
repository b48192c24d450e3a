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

from freezeframe.pipeline.support.units import format_clock

LOG_INTERVAL_S = 10.0  # seconds between two lines
WIDTH, ROWS = 80, 24  # of a terminal that does not say how large it is
REFRESH_INTERVAL_S = 1.0  # seconds between two looks at the clock of a bar
ETA_FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"  # where the work says what remains


@dataclass(frozen=True, slots=True, kw_only=True)
class StageProgress:
    """How far one stage of a job is. Rate and remaining time count only what this run has done."""

    stage: str  # in words; empty for the work itself
    initial: int  # done by an earlier run
    completed: int
    total: int | None
    seconds: float  # since the stage began
    eta: float | None = None  # seconds that remain, where the work itself knows, as of `eta_time`
    eta_time: float = 0.0  # seconds after the beginning

    @property
    def rate(self) -> float:
        """Units per second."""
        return (self.completed - self.initial) / self.seconds if self.seconds > 0 else 0.0

    @property
    def remaining(self) -> float | None:
        """Seconds; None where nothing tells. Frames differ in work: what the work itself says comes first."""
        if self.eta is not None:
            eta = self.eta - (self.seconds - self.eta_time)
            return eta if eta > 0 else None  # it takes longer than was thought
        if not self.total or not self.rate or self.completed >= self.total:
            return None
        return (self.total - self.completed) / self.rate

    def text(self, *, unit: str) -> str:
        """Such as `120 of 750 frames (16 %) in 00:30, 4.0 frames/s, 02:38 left`."""
        # What a header promises is not always what comes.
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
        what = " of ".join(sizes) + " MB"
    else:
        what = f"{completed} of {total}" if total is not None else str(completed)
        what += f" {unit}s" * bool(unit)
    return f"{what} ({100 * completed // total} %)" if total else what


def _rate(rate: float, unit: str) -> str:
    if unit == "B":
        return f"{rate / 1e6:.1f} MB/s"
    return f"{rate:.1f} {unit}s/s" if rate >= 1 else f"{1 / rate:.1f} s/{unit}"


class ProgressDisplay(Protocol):
    """Where progress is shown."""

    def show(self, progress: StageProgress) -> None:
        """The clock went on."""

    def end(self, progress: StageProgress) -> None:
        """A stage or the whole work is done."""


class LineDisplay:
    """Lines for a pipe or a log file."""

    def __init__(self, name: str, unit: str, write_line: Callable[[str], None]) -> None:
        self._name, self._unit, self._write_line = name, unit, write_line

    def show(self, progress: StageProgress) -> None:
        """A line for where the work is."""
        self._write_line(f"{self._name}: {progress.text(unit=self._unit)}")

    def end(self, progress: StageProgress) -> None:
        """A line for the work itself; stages that are over need none."""
        if not progress.stage:
            self.show(progress)


class BarDisplay:
    """A bar for whoever sits at a terminal."""

    def __init__(self, name: str, unit: str) -> None:
        self._name, self._unit = name, unit
        self._bar: Any = None

    def show(self, progress: StageProgress) -> None:
        """The bar as it is now."""
        bar = self._bar = self._bar or self._create_bar(progress)
        bar.start_t = time.time() - progress.seconds
        bar.total = progress.total
        bar.n = progress.completed
        if progress.eta is not None and progress.remaining is not None:
            bar.bar_format = ETA_FORMAT
            bar.set_postfix_str(f"{format_clock(progress.remaining)} left", refresh=False)
        bar.refresh()

    def end(self, progress: StageProgress) -> None:
        """The bar at its end; that of a stage goes away."""
        self.show(progress)
        self._bar.close()
        self._bar = None

    def _create_bar(self, progress: StageProgress) -> Any:
        from tqdm import tqdm

        is_stage = bool(progress.stage)
        has_size = os.get_terminal_size(sys.stderr.fileno()).columns > 0
        return tqdm(
            desc=": ".join(filter(None, (self._name, progress.stage))), unit="part" if is_stage else self._unit,
            initial=progress.initial, total=progress.total, file=sys.stderr, leave=not is_stage,
            dynamic_ncols=has_size, ncols=None if has_size else WIDTH, nrows=None if has_size else ROWS,
            unit_scale=self._unit == "B" and not is_stage, smoothing=0,
        )  # fmt: skip


class ProgressMeter:
    """Takes progress as it comes and shows it, also while nothing comes."""

    def __init__(self, display: ProgressDisplay, *, interval: float) -> None:
        self._display, self._interval = display, interval
        self._progress: StageProgress | None = None
        self._start_time = 0.0
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __call__(
        self, completed: int, total: int | None, stage: str = "", eta: float | None = None, /
    ) -> None:
        """See `progress.Advance`."""
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
        # What failed says so itself, in a sentence.
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
