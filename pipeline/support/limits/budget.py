"""Time limit of a run: raise the blur thresholds so that the most blurred frames are processed first."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetParams:
    """Cost model of a run."""

    seconds_per_megapixel: float = 2.5  # initial estimate of the processing time of a frame
    smoothing: float = 0.5  # weight of a new measurement in the running mean
    passthrough_cost: float = 4  # times the first pass: decode again, encode, read the file back


BUDGET_PARAMS = BudgetParams()


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
        self.frame_seconds = params.seconds_per_megapixel * megapixels  # processing time of a frame

    @property
    def is_limited(self) -> bool:
        """Whether there is a time limit."""
        return self._end < math.inf

    def update(self, frames: int, seconds: Mapping[str, float]) -> None:
        """Update the processing time per frame from one window: number of frames, seconds per stage."""
        if frames:
            total = sum(seconds.values()) - seconds.get("write", 0.0)
            self.frame_seconds += self._params.smoothing * (total / frames - self.frame_seconds)

    def estimate(self, deblur_frames: int, frames: int) -> float:
        """Seconds to process `deblur_frames` of the remaining `frames`; at most the remaining time."""
        remaining = self._end - self._clock()
        return min(
            max(0.0, remaining), deblur_frames * self.frame_seconds + frames * self._passthrough_seconds
        )

    def threshold_scale(self, blur_ratios: Sequence[float], *, ramp_start: float) -> float:
        """Factor, at least 1, on the blur thresholds with which the remaining frames fit into the time.

        Args:
            blur_ratios: Blur of each remaining frame over its threshold.
            ramp_start: Blur ratio from which a frame is processed.
        """
        if not self.is_limited:
            return 1.0
        remaining = self._end - self._clock() - self._passthrough_seconds * len(blur_ratios)
        count = max(0, int(remaining / self.frame_seconds))
        if count >= len(blur_ratios):
            return 1.0
        # The most blurred frame that does not fit lies just below the ramp.
        return max(1.0, sorted(blur_ratios, reverse=True)[count] / ramp_start * (1 + 1e-6))
