"""Time limit of a run: raise the blur thresholds so that the most blurred frames are processed first."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetParams:
    """Cost model of a run."""

    seconds_per_megapixel: float = 2.5  # initial estimate of the deconvolution of a frame
    layer_seconds_per_megapixel: float = 150.0  # the same of layers, per megapixel of a mover and frame
    smoothing: float = 0.5  # weight of a new measurement in the running mean, from the second one on
    passthrough_cost: float = 4  # times the first pass: decode again, encode, read the file back


BUDGET_PARAMS = BudgetParams()


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameWork:
    """Expected work on one frame."""

    blur_ratio: float  # bound of the blur of the frame, or of a mover in it, over its threshold
    deconvolved: bool = True  # whether more than movers may be blurred
    layer_megapixels: float = 0.0  # of movers whose fit begins here, summed over the frames of the fit


class Budget:
    """Remaining time of a run, and the frames that fit into it."""

    def __init__(
        self,
        seconds: float,
        *,
        megapixels: float,
        read_seconds: float,
        params: BudgetParams = BUDGET_PARAMS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the clock.

        Args:
            seconds: Time limit; infinite for none.
            megapixels: Size of a frame.
            read_seconds: Time of the first pass per frame.
            params: Cost model.
            clock: Current time in seconds.
        """
        self._clock, self._params = clock, params
        self._end = clock() + seconds
        self._passthrough_seconds = params.passthrough_cost * read_seconds
        self._level = 0.0  # blur ratio from which frames are processed
        self._frame_seconds = _Mean(params.seconds_per_megapixel * megapixels, params.smoothing)
        self._layer_seconds = _Mean(params.layer_seconds_per_megapixel, params.smoothing)

    @property
    def is_limited(self) -> bool:
        """Whether there is a time limit."""
        return self._end < math.inf

    def update(self, work: Sequence[FrameWork], seconds: Mapping[str, float]) -> None:
        """Learn from one window what work takes.

        Args:
            work: Expected work on the frames of the window.
            seconds: Per stage.
        """
        done = [each for each in work if each.blur_ratio >= self._level]
        layers = seconds.get("layers", 0.0)
        others = sum(seconds.values()) - layers - seconds.get("write", 0.0)
        self._frame_seconds.add(others, sum(each.deconvolved for each in done))
        self._layer_seconds.add(layers, sum(each.layer_megapixels for each in done))

    def seconds(self, work: FrameWork) -> float:
        """Seconds to process a frame, without reading and writing it."""
        return (
            work.deconvolved * self._frame_seconds.value + work.layer_megapixels * self._layer_seconds.value
        )

    def estimate(self, work: Sequence[FrameWork], *, ramp_start: float) -> float:
        """Seconds for the remaining frames; at most the remaining time.

        Args:
            work: Expected work on each remaining frame.
            ramp_start: Blur ratio from which a frame is processed.
        """
        remaining = self._end - self._clock()
        seconds = sum(self.seconds(each) for each in work if each.blur_ratio >= ramp_start)
        return min(max(0.0, remaining), seconds + len(work) * self._passthrough_seconds)

    def threshold_scale(self, work: Sequence[FrameWork], *, ramp_start: float) -> float:
        """Factor, at least 1, on the blur thresholds with which the remaining frames fit into the time.

        Args:
            work: Expected work on each remaining frame.
            ramp_start: Blur ratio from which a frame is processed.
        """
        scale = self._scale(work, ramp_start) if self.is_limited else 1.0
        self._level = scale * ramp_start
        return scale

    def _scale(self, work: Sequence[FrameWork], ramp_start: float) -> float:
        remaining = self._end - self._clock() - self._passthrough_seconds * len(work)
        for each in sorted(work, key=lambda each: -each.blur_ratio):
            remaining -= self.seconds(each)
            if remaining < 0:
                # The most blurred frame that does not fit lies just below the ramp.
                return max(1.0, each.blur_ratio / ramp_start * (1 + 1e-6))
        return 1.0


class _Mean:
    """Running mean of seconds per unit of work; the first measurement replaces the initial value."""

    def __init__(self, initial: float, smoothing: float) -> None:
        self.value, self._smoothing, self._weight = initial, smoothing, 1.0

    def add(self, seconds: float, units: float) -> None:
        """Add the seconds that so many units took."""
        if units:
            self.value += self._weight * (seconds / units - self.value)
            self._weight = self._smoothing
