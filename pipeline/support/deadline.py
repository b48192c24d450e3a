"""When a budget ends, and what it was that went on too long."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from freezeframe.data.errors import NoScene

from .progress import Advance

Beat = Callable[[], None]  # called once for each piece of work, before it begins


def unhurried() -> None:
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
    def left(self) -> float:
        """Seconds, 0 when it has passed."""
        return max(0.0, self.end - time.monotonic())

    def check(self, doing: str) -> None:
        """Raise NoScene if it has passed while `doing` something."""
        if not self.left:
            raise NoScene(f"the time ended while {doing}; give more of it (--budget), or take a shorter part")

    def beat(self, doing: str, advance: Advance, total: int) -> Beat:
        """Check, and tell of one of `total` pieces of work."""

        def beat() -> None:
            self.check(doing)
            advance(1, total)

        return beat
