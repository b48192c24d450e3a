"""Proposals become frames once those after them are known, so that what was cut down fades in and out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from .continuity import REACH, eroded
from .gate import Finished, Proposal, finished


class Settling:
    """Holds the last proposals of a shot back until what comes after them can be heard."""

    def __init__(self, *, first: int, strength: float) -> None:
        """Frames before number `first` are heard, but were written by an earlier run."""
        self._first, self._strength = first, strength
        self._held: deque[Proposal] = deque()
        self._past: list[float] = []  # limits of up to REACH frames before the held ones

    def add(self, proposals: Iterable[Proposal], *, last: bool) -> list[Finished]:
        """Take proposals of consecutive frames, and hand out all frames that are settled.

        Args:
            proposals: Of the frames after those that were added before.
            last: The shot ends with them.
        """
        self._held.extend(proposals)
        limits = [*self._past, *(each.limit for each in self._held)]
        shares = eroded(limits)[len(self._past) :]
        settled = len(self._held) if last else max(0, len(self._held) - REACH)
        done = [(self._held.popleft(), share) for share in shares[:settled]]
        self._past = [] if last else limits[: len(self._past) + settled][-REACH:]
        return [
            finished(each, min(each.weight, share) * self._strength)
            for each, share in done
            if each.frame.index >= self._first
        ]
