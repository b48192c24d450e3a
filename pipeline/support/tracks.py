"""The regions of all frames, joined to the tracks of their movers."""

from __future__ import annotations

import cmath
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from freezeframe.data.types import Method, RegionVerdict, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackSummary:
    """A mover over the frames that list it among their regions."""

    track: int  # number of the mover within the clip
    mover: Literal["object"]  # what moves
    first: int  # frame index
    last: int  # frame index, inclusive
    blur: float  # pixels; the largest of its frames
    direction: float  # radians; mean of its frames, weighted by blur
    methods: Mapping[Method, int]  # number of frames per method


def summarize_tracks(verdicts: Iterable[Verdict]) -> tuple[TrackSummary, ...]:
    """One summary per track, in the order of their numbers."""
    tracks: dict[int, list[tuple[int, RegionVerdict]]] = {}
    for verdict in verdicts:
        for region in verdict.regions:
            tracks.setdefault(region.track, []).append((verdict.index, region))
    return tuple(
        TrackSummary(
            track=number,
            mover=seen[0][1].mover,
            first=seen[0][0],
            last=seen[-1][0],
            blur=max(region.blur for _, region in seen),
            direction=mean_direction([(region.blur, region.direction) for _, region in seen]),
            methods=dict(Counter(region.method for _, region in seen)),
        )
        for number, seen in sorted(tracks.items())
    )


def mean_direction(motions: Iterable[tuple[float, float]]) -> float:
    """Direction, radians, of the sum of motions: (length, direction in radians) each."""
    return cmath.phase(sum((cmath.rect(*motion) for motion in motions), 0j))


def corrected_objects(verdicts: Iterable[Verdict]) -> tuple[int, int]:
    """Numbers of the frames with a corrected region, and of the tracks of these regions."""
    changed = [
        [region.track for region in verdict.regions if region.strength > 0]
        for verdict in verdicts
        if verdict.action == "deblurred"
    ]
    return sum(map(bool, changed)), len({track for tracks in changed for track in tracks})
