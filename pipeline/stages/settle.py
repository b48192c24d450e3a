"""Apply proposals once the limits of the frames after them are known, so that corrections fade in and out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from .continuity import FADE_RADIUS, erode
from .gate import GatedFrame, Proposal, apply_proposal


class StrengthSmoother:
    """Delays the proposals of a shot by `FADE_RADIUS` frames and limits the change of their strength."""

    def __init__(self, *, first: int, strength: float) -> None:
        """Frames before number `first` affect the envelope only: an earlier run wrote them."""
        self._first, self._strength = first, strength
        self._pending: deque[Proposal] = deque()
        self._past_limits: list[float] = []  # of up to FADE_RADIUS frames before the pending ones

    def add(self, proposals: Iterable[Proposal], *, last: bool) -> list[GatedFrame]:
        """Add proposals of consecutive frames and return all frames whose strength is final.

        Args:
            proposals: Of the frames after those of the last call.
            last: Whether the shot ends with them.
        """
        self._pending.extend(proposals)
        limits = [*self._past_limits, *(each.limit for each in self._pending)]
        max_strengths = erode(limits)[len(self._past_limits) :]
        ready = len(self._pending) if last else max(0, len(self._pending) - FADE_RADIUS)
        ready_proposals = [(self._pending.popleft(), max_strength) for max_strength in max_strengths[:ready]]
        self._past_limits = [] if last else limits[: len(self._past_limits) + ready][-FADE_RADIUS:]
        return [
            apply_proposal(
                each, min(each.weight, max_strength) * self._strength, region_strength=self._strength
            )
            for each, max_strength in ready_proposals
            if each.frame.index >= self._first
        ]
