"""Apply proposals once the limits of the frames after them are known, so that corrections fade in and out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from freezeframe.data.types import Frame, RegionVerdict, Verdict

from .continuity import FADE_RADIUS, dilate, erode
from .gate import Proposal, apply_proposal, with_strength

UNEXPLAINED = 0.5  # residual from which a layer is not shown, whatever its neighbours explain

Strengths = Mapping[int | None, float]  # of the tracks of a frame


@dataclass(frozen=True, slots=True)
class Decisions:
    """What is decided about one frame before its neighbours are looked at. Holds no pixels."""

    limit: float  # largest strength of the correction of the whole frame
    regions: tuple[RegionVerdict, ...]

    @classmethod
    def of(cls, proposal: Proposal) -> Decisions:
        return cls(proposal.limit, tuple(each.verdict for each in proposal.regions))


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledFrame:
    """A finished frame."""

    frame: Frame  # with its corrections
    verdict: Verdict
    proposal: Proposal  # with the final strengths of its regions
    strength: float  # applied fraction of the correction of the whole frame


class StrengthSmoother:
    """Delays the proposals of a shot by `FADE_RADIUS` frames and limits the change of their strengths.

    The strength of each tracked mover changes as slowly as that of the whole frame: a mover whose layer
    explains every other frame would flicker.
    """

    def __init__(self, *, first: int, strength: float) -> None:
        """Frames before number `first` affect the envelopes only: an earlier run wrote them."""
        self._first, self._strength = first, strength
        self._pending: deque[Proposal] = deque()
        self._past: list[Decisions] = []  # of up to FADE_RADIUS frames before the pending ones

    def add(self, proposals: Iterable[Proposal], *, last: bool) -> list[SettledFrame]:
        """Add proposals of consecutive frames and return all frames whose strengths are final.

        Args:
            proposals: Of the frames after those of the last call.
            last: Whether the shot ends with them.
        """
        self._pending.extend(proposals)
        decisions = [*self._past, *map(Decisions.of, self._pending)]
        limits = erode([each.limit for each in decisions])[len(self._past) :]
        strengths = track_strengths([each.regions for each in decisions])[len(self._past) :]
        ready = len(self._pending) if last else max(0, len(self._pending) - FADE_RADIUS)
        final = [(self._pending.popleft(), limits[i], strengths[i]) for i in range(ready)]
        self._past = [] if last else decisions[: len(self._past) + ready][-FADE_RADIUS:]
        return [self._apply(*each) for each in final if each[0].frame.index >= self._first]

    def _apply(self, proposal: Proposal, limit: float, strengths: Strengths) -> SettledFrame:
        regions = [
            replace(
                each,
                verdict=with_strength(each.verdict, self._strength * strengths[each.verdict.track], "layer"),
            )
            for each in proposal.regions
        ]
        strength = min(proposal.weight, limit) * self._strength
        final = replace(proposal, regions=tuple(regions))
        frame, verdict = apply_proposal(final, strength)
        return SettledFrame(frame=frame, verdict=verdict, proposal=final, strength=strength)


def track_strengths(frames: Sequence[Sequence[RegionVerdict]]) -> list[Strengths]:
    """Strengths of each track of consecutive frames: the mean of its two envelopes over time.

    Where one layer of many explains little, the mean takes a part of its strength from its neighbours and
    gives them a part of its weakness. A frame that lacks a track does not limit it.
    """
    own = [{each.track: each.strength for each in regions} for regions in frames]
    tracks = {track for strengths in own for track in strengths}
    low = {track: erode([strengths.get(track, 1.0) for strengths in own]) for track in tracks}
    high = {track: dilate([strengths.get(track, 0.0) for strengths in own]) for track in tracks}
    return [
        {each.track: _raise(each, (low[each.track][i] + high[each.track][i]) / 2) for each in regions}
        for i, regions in enumerate(frames)
    ]


def _raise(verdict: RegionVerdict, strength: float) -> float:
    """`strength`, which the neighbours raise the less, the less the layer itself explains."""
    return min(strength, max(verdict.strength, 1 - verdict.residual / UNEXPLAINED))
