"""A limited time, spent on the worst frames first."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

MEGAPIXEL = 2.5  # seconds for which a frame of a million pixels is worked on, until it is known better
MEMORY = 0.5  # share of the new measurement in the mean
READ_AGAIN = 4  # times the first pass: frames are decoded again, encoded, and the file is read back
MARGIN = 1e-6


class Budget:
    """Raises the gate's thresholds until what is left to do fits into the time that is left."""

    def __init__(
        self,
        seconds: float,
        *,
        megapixels: float,
        reading: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the clock.

        Args:
            seconds: Until everything must be done; infinite where nobody waits.
            megapixels: Size of a frame.
            reading: Seconds that the first pass took for a frame.
            clock: Tells seconds.
        """
        self._clock = clock
        self._end = clock() + seconds
        self._passing = READ_AGAIN * reading
        self.frame = MEGAPIXEL * megapixels  # seconds, of work on one frame

    @property
    def limited(self) -> bool:
        """Whether anybody waits."""
        return self._end < math.inf

    def learn(self, frames: int, seconds: Mapping[str, float]) -> None:
        """So many frames have been worked on, in so many seconds per stage."""
        if frames:
            spent = sum(seconds.values()) - seconds.get("write", 0.0)
            self.frame += MEMORY * (spent / frames - self.frame)

    def estimate(self, working: int, frames: int) -> float:
        """Seconds for `working` frames to be worked on of `frames` to be written; no more than there are."""
        left = self._end - self._clock()
        return min(max(0.0, left), working * self.frame + frames * self._passing)

    def scale(self, excesses: Sequence[float], *, soft: float) -> float:
        """The factor, at least 1, on the gate's thresholds with which the rest can be done in time.

        Args:
            excesses: How many times over the threshold the blur of each frame still to come is.
            soft: Excess from which a frame is worked on.
        """
        if not self.limited:
            return 1.0
        left = self._end - self._clock() - self._passing * len(excesses)
        count = max(0, int(left / self.frame))
        if count >= len(excesses):
            return 1.0
        # The strongest frame that finds no time is the first to be left alone.
        return max(1.0, sorted(excesses, reverse=True)[count] / soft * (1 + MARGIN))
