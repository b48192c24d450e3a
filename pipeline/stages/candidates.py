"""Frames of a window that may be blurred as a whole or in large parts, before any flow of full resolution.

Nothing here takes a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from freezeframe.data.types import Box
from freezeframe.motion.flow.thumbnail import coarse_speeds
from freezeframe.motion.regions.region_map import RegionMap, project
from freezeframe.pipeline.config import GateConfig

from .continuity import dilate_mask
from .first_pass import ThumbnailMotion
from .flows import FlowCache
from .gate import Extent, blur_ratio, extent
from .shots import Window
from .survey import Survey


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateParams:
    """Blur ratios, relative to `GateConfig.ramp_start`, that decide after the first pass."""

    recheck_ratio: float = 0.85  # bound of the first pass from which speeds at half resolution are estimated
    certain_ratio: float = 3.0  # bound from which they are not: on real clips they never disagree there
    fine_ratio: float = 0.93  # of the speeds at half resolution, from which a frame is measured
    still_blur: float = 0.5  # pixels of the camera's blur below which only movers are blurred
    box_margin: float = 0.5  # of a corrected region's sides, around it, where its motion is felt


CANDIDATE_PARAMS = CandidateParams()


def select_candidates(  # noqa: PLR0913  # the results of the first pass and of the survey
    window: Window,
    thumbnail_motion: ThumbnailMotion,
    survey: Survey,
    flow_cache: FlowCache,
    config: GateConfig,
    *,
    corrected: Mapping[int, Sequence[Box]] = MappingProxyType({}),
    params: CandidateParams = CANDIDATE_PARAMS,
) -> list[int]:
    """Positions in the window of owned frames that may be blurred, or are near one that may be.

    Args:
        window: Frames of one shot.
        thumbnail_motion: Result of the first pass.
        survey: Of the clip; its largest shutter counts.
        flow_cache: Holds the speeds at half resolution.
        config: Thresholds of blur.
        corrected: Regions that layers correct, by the number of the frame.
        params: Ratios that decide.
    """
    size, shutter = thumbnail_motion.size, survey.max_shutter

    def is_explained(i: int) -> bool:
        """Whether the camera stands still and little moves outside of the corrected regions."""
        index = window.frames[i].index
        boxes = corrected.get(index, ())
        if not boxes or camera_blur(thumbnail_motion.regions, index, size, shutter) > params.still_blur:
            return False
        return all(
            blur_ratio(rest.scale(shutter), size, config) < config.ramp_start
            for rest in _speeds_outside(window, i, boxes, params)
        )

    def may_be_blurred(i: int) -> bool:
        if is_explained(i):
            return False
        bound = thumbnail_motion.blur_ratio(window.frames[i].index, survey.max_shutter, config)
        relative = bound / config.ramp_start
        if relative < params.recheck_ratio or relative >= params.certain_ratio:
            return relative >= params.certain_ratio
        pairs = [(k, k + 1) for k in (i - 1, i) if 0 <= k < len(window.frames) - 1]
        speeds = [flow_cache.fine_speed(window.frames[a], window.frames[b]) for a, b in pairs]
        ratios = [
            blur_ratio(speed.scale(survey.max_shutter), thumbnail_motion.size, config) for speed in speeds
        ]
        return max(ratios, default=0.0) >= params.fine_ratio * config.ramp_start

    selected = dilate_mask([may_be_blurred(i) for i in range(len(window.frames))])
    return [i for i in window.owned if selected[i]]


def camera_blur(regions: RegionMap, index: int, size: tuple[int, int], shutter: float) -> float:
    """Blur of the background at the corners of frame `index` by the motion of the camera, pixels."""
    height, width = size
    corners = np.array([[0.0, 0], [width, 0], [0, height], [width, height]])
    steps = [regions.camera[k] for k in (index - 1, index) if 0 <= k < len(regions.camera)]
    shifts = [np.abs(project(step.numpy(), corners) - corners).max() for step in steps if step is not None]
    return shutter * float(max(shifts, default=0.0))


def _speeds_outside(
    window: Window, i: int, boxes: Sequence[Box], params: CandidateParams
) -> Iterator[Extent]:
    """Speeds from the frame before and to the frame after frame `i`, outside of `boxes`."""
    for a, b in ((i - 1, i), (i, i + 1)):
        if a >= 0 and b < len(window.frames):
            before, after = (window.frames[k].picture.luma() for k in (a, b))
            speeds = coarse_speeds(before, after)
            scale = speeds.shape[0] / before.shape[0], speeds.shape[1] / before.shape[1]
            for box in boxes:
                margin = round(params.box_margin * max(box.width, box.height))
                wide = box.widen(margin, (before.shape[0], before.shape[1]))
                rows = slice(int(wide.top * scale[0]), math.ceil(wide.bottom * scale[0]))
                columns = slice(int(wide.left * scale[1]), math.ceil(wide.right * scale[1]))
                speeds[rows, columns] = 0
            yield extent(speeds)
