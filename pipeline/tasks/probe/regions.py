"""Small fast movers of a clip, for its diagnosis."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from freezeframe.data.types import Box
from freezeframe.motion.regions.region_map import Track
from freezeframe.pipeline.config import GateConfig
from freezeframe.pipeline.stages.first_pass import ThumbnailMotion
from freezeframe.pipeline.stages.layers import image_velocity, max_blur, min_blur
from freezeframe.pipeline.support.tracks import mean_direction


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbedRegion:
    """A mover over the frames of its track."""

    track: int  # number of the mover within the clip
    mover: Literal["object"]  # what moves
    first: int  # frame index
    last: int  # frame index, inclusive
    most_blurred: int  # frame index, of the longest blur
    box: Box  # pixels of the frame `most_blurred`
    blur_px: float  # pixels; the largest of its frames: path of the centre during the exposure
    direction: float  # radians; of the motion in the frame, 0 to the right, positive downwards
    blurred: bool  # whether `deblur_video` would process it


def probe_regions(thumbnail_motion: ThumbnailMotion, shutter: float) -> tuple[ProbedRegion, ...]:
    """The movers of a clip, the most blurred first.

    Args:
        thumbnail_motion: Result of the first pass.
        shutter: Largest plausible exposure time over frame interval.
    """
    threshold = min_blur(thumbnail_motion.size, GateConfig())
    regions = [_probe_track(track, shutter, threshold) for track in thumbnail_motion.regions.tracks]
    return tuple(sorted(regions, key=lambda region: -region.blur_px))


def _probe_track(track: Track, shutter: float, threshold: float) -> ProbedRegion:
    blurs = {index: max_blur(track, range(index, index + 1), shutter) for index in track.span}
    worst = max(blurs, key=lambda index: blurs[index])
    velocities = [image_velocity(track, index) for index in track.span]
    return ProbedRegion(
        track=track.number,
        mover="object",
        first=track.span.start,
        last=track.span.stop - 1,
        most_blurred=worst,
        box=track.at(worst).box,
        blur_px=blurs[worst],
        direction=mean_direction([(math.hypot(x, y), math.atan2(y, x)) for x, y in velocities]),
        blurred=blurs[worst] >= threshold,
    )
