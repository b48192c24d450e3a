"""When a budget ends, and what it was that went on too long."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from freezeframe.data.errors import NoScene

from .progress import ProgressCallback

DeadlineCheck = Callable[[], None]  # called once for each piece of work, before it begins


def no_deadline() -> None:
    """The beat of who has time."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment of the monotonic clock."""

    end: float = math.inf  # seconds

    @staticmethod
    def within(seconds: float) -> Deadline:
        """So many seconds from now."""
        return Deadline(time.monotonic() + seconds)

    @property
    def remaining(self) -> float:
        """Seconds, 0 when it has passed."""
        return max(0.0, self.end - time.monotonic())

    def check(self, activity: str) -> None:
        """Raise NoScene if it has passed while `activity` something."""
        if not self.remaining:
            raise NoScene(
                f"the time ended while {activity}; give more of it (--budget), or take a shorter part"
            )

    def check_deadline(self, activity: str, on_progress: ProgressCallback, total: int) -> DeadlineCheck:
        """Check, and tell of one of `total` pieces of work."""

        def check_deadline() -> None:
            self.check(activity)
            on_progress(1, total)

        return check_deadline
