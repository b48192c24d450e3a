"""Which movers are small, fast and blurred enough for a layer, and what is known of their shutter."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from freezeframe.motion.regions.region_map import RegionMap, Track
from freezeframe.pipeline.config import GateConfig
from freezeframe.pipeline.stages.survey import Survey


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerParams:
    """Tunables of the stage."""

    rigid_frames: int = 6  # of a chunk of a mover that hardly changes its shape
    limber_frames: int = 2  # of a chunk of one whose parts move apart
    overlap: int = 1  # frames beside a chunk that are fitted too
    coarse_side: int = 40  # pixels: textures with a longer shorter side are judged at half size
    min_blur_px: float = 2.0  # pixels; less blur of a mover is left as it is
    max_area: int = 300 * 300  # pixels of a mover; larger ones are left to the flow
    margin: float = 10.0  # pixels of the texture around the mover
    blur_share: float = 0.6  # of the blur, that the texture is smaller than the silhouette
    known_shutter: float = 0.8  # confidence of the survey from which its shutter is not fitted, if
    known_speed_px: float = 2.0  # the camera moves by so many pixels per frame: movers alone mislead it
    start_shutters: tuple[float, ...] = (0.85, 0.45)  # of an unknown one; the next where one explains little
    max_shutter: float = 0.97  # of start values
    sharp_shutter: float = 0.1  # almost no blur
    # Ratio of residuals from which one shutter explains clearly more than another. For 14 blurred movers of
    # the benchmark, that of the right shutter over that of almost no blur is below 1.2; for the roof of a
    # sharp car, which a long exposure covers with stripes, it is 3.
    clearly: float = 1.5
    # Residual up to which a layer is shown, and from which it is not: beside the recorded frame, and beside a
    # frame that is deconvolved because the camera moves. In 20 frames of the sample `sports` and in three
    # pans, layers of up to 0.10 gain 0.3 to 6 dB over deconvolution; from 0.12 on they lose up to 1.8 dB.
    limits: tuple[float, float] = (0.15, 0.22)
    limits_over_flow: tuple[float, float] = (0.10, 0.12)
    visible_coverage: float = 0.1  # coverage from which a pixel shows the layer only, where the camera moves


LAYER_PARAMS = LayerParams()


def min_blur(size: tuple[int, int], gate: GateConfig, params: LayerParams = LAYER_PARAMS) -> float:
    """Blur of a mover from which it is fitted, in pixels, in a frame of `size` (height, width)."""
    return max(params.min_blur_px, gate.min_blur_px, gate.global_blur * size[0])


def region_blur_ratio(
    regions: RegionMap, index: int, size: tuple[int, int], shutter: float, gate: GateConfig
) -> float:
    """Largest blur of the small movers of frame `index` over the threshold."""
    here = range(index, index + 1)
    blurs = [max_blur(track, here, shutter) for track in regions.tracks_at(index) if is_small(track, here)]
    return max(blurs, default=0.0) / min_blur(size, gate)


def is_small(track: Track, indices: range, params: LayerParams = LAYER_PARAMS) -> bool:
    """Whether a mover is small enough to be fitted in frames `indices`."""
    boxes = [track.at(index).box for index in indices]
    return max(box.width * box.height for box in boxes) <= params.max_area


def max_blur(track: Track, indices: range, shutter: float) -> float:
    """Largest blur of a mover in frames `indices`, in pixels."""
    return max(math.hypot(*image_velocity(track, index)) for index in indices) * shutter


def image_velocity(track: Track, index: int) -> tuple[float, float]:
    """Velocity of the centre in the picture, (x, y) pixels per frame interval."""
    first, last = max(track.span.start, index - 1), min(track.span.stop - 1, index + 1)
    (x0, y0), (x1, y1) = track.at(first).centre, track.at(last).centre
    return (x1 - x0) / max(1, last - first), (y1 - y0) / max(1, last - first)


def known_shutter(survey: Survey, regions: RegionMap, params: LayerParams) -> float | None:
    """The shutter of the user or of a confident survey of a moving camera; else None."""
    speeds = [step[:2, 2].norm().item() for step in regions.camera if step is not None]
    moving = bool(speeds) and float(np.median(speeds)) >= params.known_speed_px
    set_by_user = survey.estimate is None and survey.confidence == 1
    return survey.shutter if set_by_user or (moving and survey.confidence >= params.known_shutter) else None


def max_mover_shutter(survey: Survey, regions: RegionMap, params: LayerParams = LAYER_PARAMS) -> float:
    """Longest plausible shutter of the movers: the known one, or that from which the fit starts."""
    return known_shutter(survey, regions, params) or max(params.start_shutters)
