"""What is found out about a clip before its first frame is worked on."""

from __future__ import annotations

import math
import time
from pathlib import Path

from freezeframe.data.types import Source
from freezeframe.models.imageops.tiling import Restorer
from freezeframe.models.restorer.image_restorer import load_restorer
from freezeframe.models.runtime.device import find_device
from freezeframe.models.store.weights_cache import find
from freezeframe.pipeline.adaptation.network import load_network, load_weights
from freezeframe.pipeline.stages.budget import Budget
from freezeframe.pipeline.stages.first_pass import ThumbnailMotion, first_pass
from freezeframe.pipeline.stages.measure import RECHECK_RATIO, SHUTTER_PRIOR_MEAN, FlowCache, Survey, survey
from freezeframe.pipeline.stages.splat import SceneLog
from freezeframe.pipeline.support.progress import ProgressCallback
from freezeframe.pipeline.support.report import Stopwatch

from .config import Config
from .deblur import ClipState

FIRST_PASS = "first pass"  # the stage, in words
MAX_SHUTTER = 1.0  # frame intervals: no shutter is open for longer


def prepare(  # noqa: PLR0913  # the clip, the user's wishes, and who is told
    source: Source,
    config: Config,
    restorer: Restorer | None,
    *,
    output: Path,
    key: str,
    progress: ProgressCallback,
) -> ClipState:
    """Look at every frame, measure the shutter, read the network.

    A clip in which nothing moves fast enough for any shutter needs neither.

    Args:
        source: The clip.
        config: Every knob.
        restorer: Of the refine stage.
        output: Where the job writes.
        key: Fingerprint of clip and settings.
        progress: Told how many frames were looked at.
    """
    start_time, watch = time.monotonic(), Stopwatch()
    with watch.stage(FIRST_PASS):
        progress(0, source.count, "first pass")
        thumbnail_motion = first_pass(
            source, config.gate, on_progress=lambda done: progress(done, source.count, "first pass")
        )
    read_seconds = watch.seconds[FIRST_PASS] / thumbnail_motion.frames
    has_motion = config.strength > 0 and any_motion(thumbnail_motion, config)
    with watch.stage("survey"):
        clip_survey = (
            survey(source, config.measure, progress=progress) if has_motion else default_survey(config)
        )
    with watch.stage("adapt"):
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
        blur_ratios=[
            thumbnail_motion.blur_ratio(index, clip_survey.max_shutter, config.gate)
            for index in range(thumbnail_motion.frames)
        ],
        survey=clip_survey,
        network=network,
        restorer=restorer,
        flow_cache=FlowCache(),
        scenes=SceneLog(),
        watch=watch,
        budget=Budget(seconds, megapixels=math.prod(thumbnail_motion.size) / 1e6, read_seconds=read_seconds),
        notes=notes,
    )


def any_motion(thumbnail_motion: ThumbnailMotion, config: Config) -> bool:
    """Whether anything moves fast enough to be blurred, however long the shutter was open."""
    level = RECHECK_RATIO * config.gate.ramp_start
    shutter = config.measure.shutter or MAX_SHUTTER
    return any(
        thumbnail_motion.blur_ratio(index, shutter, config.gate) >= level
        for index in range(thumbnail_motion.frames)
    )


def default_survey(config: Config) -> Survey:
    """What is said of a shutter that nobody asks for."""
    shutter = config.measure.shutter or SHUTTER_PRIOR_MEAN
    return Survey(
        estimate=None, shutter=shutter, max_shutter=shutter, confidence=float(bool(config.measure.shutter))
    )


def prepare_restorer(config: Config) -> Restorer | None:
    """The restorer that the user named, by file or by name, or None; what is not to be had is learned now."""
    find_device(config.device)
    load_weights(config)
    if config.refine.checkpoint is None:
        return None
    weights = find(str(config.refine.checkpoint))
    return load_restorer(
        weights.path, device=config.device, precision=config.precision, backend=config.backend
    )
