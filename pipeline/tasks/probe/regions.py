"""Blurred regions of a clip, for its diagnosis: small fast movers, and what would be deconvolved."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from freezeframe.data.types import Box, Method, Mover
from freezeframe.motion.regions.region_map import Track
from freezeframe.pipeline.config import GateConfig
from freezeframe.pipeline.stages.blurred_parts import BlurredPart
from freezeframe.pipeline.stages.first_pass import ThumbnailMotion
from freezeframe.pipeline.stages.layers.movers import image_velocity, is_small, max_blur, min_blur
from freezeframe.pipeline.support.tracks import mean_direction, mean_orientation


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbedRegion:
    """A mover over the frames of its track, or what is blurred in consecutive sampled frames."""

    track: int | None  # number of the mover within the clip; null for a region that is no tracked mover
    mover: Mover  # what moves
    first: int  # frame index
    last: int  # frame index, inclusive
    most_blurred: int  # frame index, of the longest blur
    box: Box  # pixels of the coded frame `most_blurred`
    blur_px: float  # pixels; the largest of its frames: path during the exposure
    direction: float  # radians; 0 to the right, positive downwards; modulo half a turn without a track
    blurred: bool  # whether `deblur_video` would process it
    method: Method  # explanation that `deblur_video` would try first


def probe_regions(
    thumbnail_motion: ThumbnailMotion, shutter: float, parts: Mapping[int, Sequence[BlurredPart]], stride: int
) -> tuple[ProbedRegion, ...]:
    """The blurred regions and the movers of a clip, the most blurred first.

    Args:
        thumbnail_motion: Result of the first pass.
        shutter: Largest plausible exposure time over frame interval.
        parts: Blurred parts of the sampled frames that would be deconvolved, by frame.
        stride: Distance of the sampled frames.
    """
    threshold = min_blur(thumbnail_motion.size, GateConfig())
    regions = [_probe_track(track, shutter, threshold) for track in thumbnail_motion.regions.tracks]
    runs = part_runs(parts, stride=stride, cuts=thumbnail_motion.cuts)
    return tuple(sorted([*regions, *map(_probe_run, runs)], key=lambda region: -region.blur_px))


def part_runs(
    parts: Mapping[int, Sequence[BlurredPart]], *, stride: int, cuts: frozenset[int]
) -> Iterator[list[tuple[int, BlurredPart]]]:
    """Parts with one kind of mover in consecutive sampled frames of one shot, with their frames."""
    for mover in ("camera", "object"):
        run: list[tuple[int, BlurredPart]] = []
        for index in sorted(parts):
            found = [(index, part) for part in parts[index] if part.mover == mover]
            apart = run and (index - run[-1][0] > stride or any(run[-1][0] < cut <= index for cut in cuts))
            if found and apart:
                yield run
                run = []
            run += found
        if run:
            yield run


def _probe_track(track: Track, shutter: float, threshold: float) -> ProbedRegion:
    blurs = {index: max_blur(track, range(index, index + 1), shutter) for index in track.span}
    worst = max(blurs, key=lambda index: blurs[index])
    velocities = [image_velocity(track, index) for index in track.span]
    blurred = blurs[worst] >= threshold
    layer = blurred and is_small(track, range(worst, worst + 1))
    return ProbedRegion(
        track=track.number,
        mover="object",
        first=track.span.start,
        last=track.span.stop - 1,
        most_blurred=worst,
        box=track.at(worst).box,
        blur_px=blurs[worst],
        direction=mean_direction([(math.hypot(x, y), math.atan2(y, x)) for x, y in velocities]),
        blurred=blurred,
        method="layer" if layer else "input",
    )


def _probe_run(run: Sequence[tuple[int, BlurredPart]]) -> ProbedRegion:
    most_blurred, worst = max(run, key=lambda each: each[1].blur)
    return ProbedRegion(
        track=None,
        mover=worst.mover,
        first=run[0][0],
        last=run[-1][0],
        most_blurred=most_blurred,
        box=worst.box,
        blur_px=worst.blur,
        direction=mean_orientation([(part.blur, part.direction) for _, part in run]),
        blurred=True,
        method="deconvolution",
    )
