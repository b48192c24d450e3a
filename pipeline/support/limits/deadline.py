"""Time limit of a job."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from freezeframe.data.errors import NoScene
from freezeframe.pipeline.support.progress import ProgressCallback

DeadlineCheck = Callable[[], None]  # called before each unit of work; raises NoScene when time is up


def no_deadline() -> None:
    """A DeadlineCheck without a limit."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A time of the monotonic clock."""

    end: float = math.inf  # seconds

    @staticmethod
    def within(seconds: float) -> Deadline:
        """The deadline after `seconds` from now."""
        return Deadline(time.monotonic() + seconds)

    @property
    def remaining(self) -> float:
        """Seconds until the deadline, 0 after it."""
        return max(0.0, self.end - time.monotonic())

    def check(self, activity: str) -> None:
        """Raise NoScene after the deadline; `activity` completes "the time limit was reached while"."""
        if not self.remaining:
            raise NoScene(
                f"the time limit was reached while {activity}; give more time (--budget), or select a"
                " shorter part (--start, --end)"
            )

    def check_deadline(self, activity: str, on_progress: ProgressCallback, total: int) -> DeadlineCheck:
        """A DeadlineCheck that also reports one of `total` units of work."""

        def check_deadline() -> None:
            self.check(activity)
            on_progress(1, total)

        return check_deadline
