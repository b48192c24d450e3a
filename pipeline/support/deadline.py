"""Time limit of a command."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from freezeframe.data.errors import NoScene

from .progress import ProgressCallback

DeadlineCheck = Callable[[], None]  # called before each unit of work


def no_deadline() -> None:
    """Check of an infinite deadline."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment of the monotonic clock."""

    end: float = math.inf  # seconds

    @staticmethod
    def within(seconds: float) -> Deadline:
        """`seconds` from now."""
        return Deadline(time.monotonic() + seconds)

    @property
    def remaining(self) -> float:
        """Seconds until the deadline; 0 after it."""
        return max(0.0, self.end - time.monotonic())

    def check(self, activity: str) -> None:
        """Raise NoScene after the deadline; `activity` completes "the time ended while ..."."""
        if not self.remaining:
            raise NoScene(
                f"the time ended while {activity}; give more of it (--budget), or take a shorter part"
            )

    def check_deadline(self, activity: str, on_progress: ProgressCallback, total: int) -> DeadlineCheck:
        """Function that checks the deadline and reports one of `total` units of work."""

        def check_deadline() -> None:
            self.check(activity)
            on_progress(1, total)

        return check_deadline
