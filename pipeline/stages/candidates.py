"""Frames of a window that may be blurred, before any flow of full resolution.

Nothing here takes a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

from freezeframe.pipeline.config import GateConfig

from .continuity import dilate_mask
from .first_pass import ThumbnailMotion
from .flows import FlowCache
from .gate import blur_ratio
from .shots import Window
from .survey import Survey


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateParams:
    """Blur ratios, relative to `GateConfig.ramp_start`, that decide after the first pass."""

    recheck_ratio: float = 0.85  # bound of the first pass from which speeds at half resolution are estimated
    certain_ratio: float = 3.0  # bound from which they are not: on real clips they never disagree there
    fine_ratio: float = 0.93  # of the speeds at half resolution, from which a frame is measured


CANDIDATE_PARAMS = CandidateParams()


def select_candidates(  # noqa: PLR0913  # the results of the first pass and of the survey
    window: Window,
    thumbnail_motion: ThumbnailMotion,
    survey: Survey,
    flow_cache: FlowCache,
    config: GateConfig,
    *,
    params: CandidateParams = CANDIDATE_PARAMS,
) -> list[int]:
    """Positions in the window of owned frames that may be blurred, or are near one that may be.

    Args:
        window: Frames of one shot.
        thumbnail_motion: Result of the first pass.
        survey: Of the clip; its largest shutter counts.
        flow_cache: Holds the speeds at half resolution.
        config: Thresholds of blur.
        params: Ratios that decide.
    """

    def may_be_blurred(i: int) -> bool:
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
