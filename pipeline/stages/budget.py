"""A limited time, spent on the worst frames first."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

SECONDS_PER_MEGAPIXEL = (
    2.5  # seconds for which a frame of a million pixels is worked on, until it is known better
)
SMOOTHING = 0.5  # share of the new measurement in the mean
PASSTHROUGH_COST = 4  # times the first pass: frames are decoded again, encoded, and the file is read back
EPSILON = 1e-6


class Budget:
    """Raises the gate's thresholds until what is left to do fits into the time that is left."""

    def __init__(
        self,
        seconds: float,
        *,
        megapixels: float,
        read_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the clock.

        Args:
            seconds: Until everything must be done; infinite where nobody waits.
            megapixels: Size of a frame.
            read_seconds: Seconds that the first pass took for a frame.
            clock: Tells seconds.
        """
        self._clock = clock
        self._end = clock() + seconds
        self._passthrough_seconds = PASSTHROUGH_COST * read_seconds
        self.frame_seconds = SECONDS_PER_MEGAPIXEL * megapixels  # seconds, of work on one frame

    @property
    def is_limited(self) -> bool:
        """Whether anybody waits."""
        return self._end < math.inf

    def update(self, frames: int, seconds: Mapping[str, float]) -> None:
        """So many frames have been worked on, in so many seconds per stage."""
        if frames:
            spent = sum(seconds.values()) - seconds.get("write", 0.0)
            self.frame_seconds += SMOOTHING * (spent / frames - self.frame_seconds)

    def estimate(self, deblur_frames: int, frames: int) -> float:
        """Seconds for `deblur_frames` frames to be worked on of `frames` to be written; no more than there are."""
        remaining = self._end - self._clock()
        return min(
            max(0.0, remaining), deblur_frames * self.frame_seconds + frames * self._passthrough_seconds
        )

    def threshold_scale(self, blur_ratios: Sequence[float], *, ramp_start: float) -> float:
        """The factor, at least 1, on the gate's thresholds with which the rest can be done in time.

        Args:
            blur_ratios: How many times over the threshold the blur of each frame still to come is.
            ramp_start: Excess from which a frame is worked on.
        """
        if not self.is_limited:
            return 1.0
        remaining = self._end - self._clock() - self._passthrough_seconds * len(blur_ratios)
        count = max(0, int(remaining / self.frame_seconds))
        if count >= len(blur_ratios):
            return 1.0
        # The strongest frame that finds no time is the first to be left alone.
        return max(1.0, sorted(blur_ratios, reverse=True)[count] / ramp_start * (1 + EPSILON))
