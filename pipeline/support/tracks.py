"""The regions of all frames, joined to the tracks of their movers and to runs of frames."""

from __future__ import annotations

import cmath
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from freezeframe.data.types import Method, Mover, RegionVerdict, Verdict

Listed = list[tuple[int, RegionVerdict]]  # regions with the indices of their frames, in order


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackSummary:
    """A mover, or what moves in consecutive frames and is no tracked mover, over the frames that list it."""

    track: int | None  # number of the mover within the clip; null for regions that are no tracked mover
    mover: Mover  # what moves
    first: int  # frame index
    last: int  # frame index, inclusive
    blur: float  # pixels; the largest of its frames
    direction: float  # radians; mean of its frames, weighted by blur; modulo half a turn without a track
    methods: Mapping[Method, int]  # number of regions per method


def summarize_tracks(verdicts: Iterable[Verdict]) -> tuple[TrackSummary, ...]:
    """One summary per track, in the order of their numbers, then one per run of frames of other regions."""
    tracks: dict[int, Listed] = {}
    others: dict[Mover, Listed] = {}
    for verdict in verdicts:
        for region in verdict.regions:
            listed = (
                others.setdefault(region.mover, [])
                if region.track is None
                else tracks.setdefault(region.track, [])
            )
            listed.append((verdict.index, region))
    runs = [run for listed in others.values() for run in _runs(listed)]
    return tuple(
        map(
            _summarize,
            [*(listed for _, listed in sorted(tracks.items())), *sorted(runs, key=lambda run: run[0][0])],
        )
    )


def mean_direction(motions: Iterable[tuple[float, float]]) -> float:
    """Direction, radians, of the sum of motions: (length, direction in radians) each."""
    return cmath.phase(sum((cmath.rect(*motion) for motion in motions), 0j))


def mean_orientation(motions: Iterable[tuple[float, float]]) -> float:
    """As `mean_direction` of motions without a sign: opposite ones have one direction, in (-pi/2, pi/2]."""
    return mean_direction([(length, 2 * angle) for length, angle in motions]) / 2


def corrected_objects(verdicts: Iterable[Verdict]) -> tuple[int, int]:
    """Numbers of the frames with a corrected mover, and of the tracks of these movers."""
    changed = [
        [region.track for region in verdict.regions if region.track is not None and region.strength > 0]
        for verdict in verdicts
        if verdict.action == "deblurred"
    ]
    return sum(map(bool, changed)), len({track for tracks in changed for track in tracks})


def _runs(listed: Listed) -> Iterator[Listed]:
    """The parts of `listed` without a missing frame between them."""
    run: Listed = []
    for index, region in listed:
        if run and index > run[-1][0] + 1:
            yield run
            run = []
        run.append((index, region))
    yield run


def _summarize(listed: Listed) -> TrackSummary:
    first = listed[0][1]
    motions = [(region.blur, region.direction) for _, region in listed]
    return TrackSummary(
        track=first.track,
        mover=first.mover,
        first=listed[0][0],
        last=listed[-1][0],
        blur=max(region.blur for _, region in listed),
        direction=mean_orientation(motions) if first.track is None else mean_direction(motions),
        methods=dict(Counter(region.method for _, region in listed)),
    )
