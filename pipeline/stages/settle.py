"""Proposals become frames once those after them are known, so that what was cut down fades in and out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from .continuity import FADE_RADIUS, erode
from .gate import GatedFrame, Proposal, apply_proposal


class StrengthSmoother:
    """Holds the last proposals of a shot back until what comes after them can be heard."""

    def __init__(self, *, first: int, strength: float) -> None:
        """Frames before number `first` are heard, but were written by an earlier run."""
        self._first, self._strength = first, strength
        self._pending: deque[Proposal] = deque()
        self._past_limits: list[float] = []  # limits of up to REACH frames before the held ones

    def add(self, proposals: Iterable[Proposal], *, last: bool) -> list[GatedFrame]:
        """Take proposals of consecutive frames, and hand out all frames that are settled.

        Args:
            proposals: Of the frames after those that were added before.
            last: The shot ends with them.
        """
        self._pending.extend(proposals)
        limits = [*self._past_limits, *(each.limit for each in self._pending)]
        max_strengths = erode(limits)[len(self._past_limits) :]
        ready = len(self._pending) if last else max(0, len(self._pending) - FADE_RADIUS)
        ready_proposals = [(self._pending.popleft(), max_strength) for max_strength in max_strengths[:ready]]
        self._past_limits = [] if last else limits[: len(self._past_limits) + ready][-FADE_RADIUS:]
        return [
            apply_proposal(each, min(each.weight, max_strength) * self._strength)
            for each, max_strength in ready_proposals
            if each.frame.index >= self._first
        ]
