"""Preparation of a clip: first pass, shutter survey, network and restorer, before its first frame."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from freezeframe.data.types import Source
from freezeframe.models.imageops.tiling import Restorer
from freezeframe.models.restorer.image_restorer import load_restorer
from freezeframe.models.runtime.device import find_device
from freezeframe.models.store.weights_cache import find
from freezeframe.motion.regions.region_map import RegionMap
from freezeframe.pipeline.adaptation.network import load_network, load_weights
from freezeframe.pipeline.stages.candidates import CANDIDATE_PARAMS
from freezeframe.pipeline.stages.first_pass import ThumbnailMotion, estimate_thumbnail_motion
from freezeframe.pipeline.stages.flows import FlowCache
from freezeframe.pipeline.stages.layers.cache import LayerCache
from freezeframe.pipeline.stages.layers.chunk_fit import chunks
from freezeframe.pipeline.stages.layers.movers import (
    LAYER_PARAMS,
    is_small,
    max_blur,
    max_mover_shutter,
    min_blur,
    region_blur_ratio,
)
from freezeframe.pipeline.stages.splat import SceneLog
from freezeframe.pipeline.stages.survey import SURVEY_PARAMS, Survey, survey
from freezeframe.pipeline.support.limits.budget import Budget, FrameWork
from freezeframe.pipeline.support.progress import ProgressCallback
from freezeframe.pipeline.support.report import Stopwatch

from .config import Config, GateConfig
from .deblur import ClipState

FIRST_PASS = "first pass"  # label of the progress bar
MAX_SHUTTER = 1.0  # exposure time over frame interval: an exposure ends before the next one


def prepare(  # noqa: PLR0913  # the clip, the settings, and the callback
    source: Source,
    config: Config,
    restorer: Restorer | None,
    *,
    output: Path,
    key: str,
    progress: ProgressCallback,
) -> ClipState:
    """Run the first pass, estimate the shutter and load the network.

    A clip without fast motion needs neither shutter nor network.

    Args:
        source: The clip.
        config: Settings.
        restorer: Of the refine stage.
        output: Path of the output.
        key: Hash of clip and settings.
        progress: Receives frames of the first pass, runs of the survey, seconds of fine-tuning.
    """
    start_time, watch = time.monotonic(), Stopwatch()
    with watch.stage("thumbnail"):
        progress(0, source.count, FIRST_PASS)
        thumbnail_motion = estimate_thumbnail_motion(
            source, on_progress=lambda frames: progress(frames, source.count, FIRST_PASS)
        )
    read_seconds = watch.seconds["thumbnail"] / thumbnail_motion.frames
    has_motion = config.strength > 0 and any_motion(thumbnail_motion, config)
    with watch.stage("survey"):
        clip_survey = (
            survey(source, config.measure, progress=progress) if has_motion else default_survey(config)
        )
    with watch.stage("fine_tune"):
        network, notes = (
            load_network(
                config, source, shutter=clip_survey.shutter, output=output, key=key, progress=progress
            )
            if has_motion
            else (None, ())
        )
    seconds = math.inf if config.budget is None else 60 * config.budget - (time.monotonic() - start_time)
    return ClipState(
        thumbnail_motion=thumbnail_motion,
        work=expected_work(thumbnail_motion, clip_survey, config),
        survey=clip_survey,
        network=network,
        restorer=restorer,
        notes=notes,
        flow_cache=FlowCache(),
        layer_cache=LayerCache(),
        scenes=SceneLog(),
        watch=watch,
        budget=Budget(seconds, megapixels=math.prod(thumbnail_motion.size) / 1e6, read_seconds=read_seconds),
    )


def any_motion(thumbnail_motion: ThumbnailMotion, config: Config) -> bool:
    """Whether any motion is fast enough to blur a frame at the longest possible exposure."""
    level = CANDIDATE_PARAMS.recheck_ratio * config.gate.ramp_start
    shutter = config.measure.shutter or MAX_SHUTTER
    return any(
        thumbnail_motion.blur_ratio(index, shutter, config.gate) >= level
        for index in range(thumbnail_motion.frames)
    )


def expected_work(thumbnail_motion: ThumbnailMotion, survey: Survey, config: Config) -> list[FrameWork]:
    """Expected work on every frame: deconvolution where more than movers may be blurred, and layers."""
    regions, size, gate = thumbnail_motion.regions, thumbnail_motion.size, config.gate
    mover_shutter = max_mover_shutter(survey, regions)
    pixels = fitted_pixels(regions, size, mover_shutter, gate)
    ratios = [
        (
            thumbnail_motion.blur_ratio(index, survey.max_shutter, gate),
            region_blur_ratio(regions, index, size, mover_shutter, gate),
        )
        for index in range(thumbnail_motion.frames)
    ]
    return [
        FrameWork(
            blur_ratio=max(frame, mover),
            deconvolved=frame >= gate.ramp_start,
            layer_megapixels=pixels.get(index, 0) / 1e6,
        )
        for index, (frame, mover) in enumerate(ratios)
    ]


def fitted_pixels(
    regions: RegionMap, size: tuple[int, int], shutter: float, gate: GateConfig
) -> Mapping[int, int]:
    """Pixels of the movers of all layers that are fitted, by the number of the first frame of the fit."""
    pixels: Counter[int] = Counter()
    for track in regions.tracks:
        for chunk in chunks(track.span, LAYER_PARAMS.rigid_frames):
            if is_small(track, chunk) and max_blur(track, chunk, shutter) >= min_blur(size, gate):
                boxes = [track.at(index).box for index in chunk]
                pixels[chunk.start] += sum(box.width * box.height for box in boxes)
    return pixels


def default_survey(config: Config) -> Survey:
    """Survey of a clip whose shutter is not needed: that of the user, or the mean of the prior."""
    shutter = config.measure.shutter or SURVEY_PARAMS.prior_mean
    return Survey(
        estimate=None, shutter=shutter, max_shutter=shutter, confidence=float(bool(config.measure.shutter))
    )


def prepare_restorer(config: Config) -> Restorer | None:
    """Load the restorer of `config`, or None; fail on a missing device or network before any work."""
    find_device(config.device)
    load_weights(config)
    if config.refine.checkpoint is None:
        return None
    weights = find(str(config.refine.checkpoint))
    return load_restorer(
        weights.path, device=config.device, precision=config.precision, backend=config.backend
    )
