"""Apply proposals once the limits of the frames after them are known, so that corrections fade in and out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from freezeframe.data.types import Frame, Verdict

from .continuity import FADE_RADIUS, erode
from .gate import Proposal, apply_proposal, with_strength

Limits = Mapping[int | None, float]  # largest strength of each track of a frame; None: of the whole frame


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledFrame:
    """A finished frame."""

    frame: Frame  # with its corrections
    verdict: Verdict
    proposal: Proposal  # with the final strengths of its regions
    strength: float  # applied fraction of the correction of the whole frame


class StrengthSmoother:
    """Delays the proposals of a shot by `FADE_RADIUS` frames and limits the change of their strengths.

    The strength of each tracked mover has an envelope of its own, as that of the whole frame has: a mover
    whose layer explains every other frame would flicker.
    """

    def __init__(self, *, first: int, strength: float) -> None:
        """Frames before number `first` affect the envelopes only: an earlier run wrote them."""
        self._first, self._strength = first, strength
        self._pending: deque[Proposal] = deque()
        self._past_limits: list[Limits] = []  # of up to FADE_RADIUS frames before the pending ones

    def add(self, proposals: Iterable[Proposal], *, last: bool) -> list[SettledFrame]:
        """Add proposals of consecutive frames and return all frames whose strengths are final.

        Args:
            proposals: Of the frames after those of the last call.
            last: Whether the shot ends with them.
        """
        self._pending.extend(proposals)
        limits = [*self._past_limits, *map(limits_of, self._pending)]
        max_strengths = envelopes(limits)[len(self._past_limits) :]
        ready = len(self._pending) if last else max(0, len(self._pending) - FADE_RADIUS)
        ready_proposals = [(self._pending.popleft(), max_strength) for max_strength in max_strengths[:ready]]
        self._past_limits = [] if last else limits[: len(self._past_limits) + ready][-FADE_RADIUS:]
        return [
            self._apply(each, max_strength)
            for each, max_strength in ready_proposals
            if each.frame.index >= self._first
        ]

    def _apply(self, proposal: Proposal, max_strengths: Limits) -> SettledFrame:
        regions = [
            replace(
                each, verdict=with_strength(each.verdict, max_strengths[each.verdict.track] * self._strength)
            )
            for each in proposal.regions
        ]
        strength = min(proposal.weight, max_strengths[None]) * self._strength
        final = replace(proposal, regions=tuple(regions))
        frame, verdict = apply_proposal(final, strength)
        return SettledFrame(frame=frame, verdict=verdict, proposal=final, strength=strength)


def limits_of(proposal: Proposal) -> Limits:
    """Largest strengths of the corrections of one frame."""
    return {None: proposal.limit} | {each.verdict.track: each.verdict.strength for each in proposal.regions}


def envelopes(limits: list[Limits]) -> list[Limits]:
    """`erode` for each track of consecutive frames. A frame that lacks a track does not limit it."""
    tracks = {track for each in limits for track in each}
    eroded = {track: erode([each.get(track, 1.0) for each in limits]) for track in tracks}
    return [{track: eroded[track][i] for track in each} for i, each in enumerate(limits)]
