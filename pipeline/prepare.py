"""What is found out about a clip before its first frame is worked on."""

from __future__ import annotations

import math
import time
from pathlib import Path

from freezeframe.data.types import Source
from freezeframe.models.restorer.load import Restorer, load_restorer
from freezeframe.models.runtime.device import find_device
from freezeframe.models.store.weights_cache import find
from freezeframe.pipeline.adaptation.network import network_of, weights_of
from freezeframe.pipeline.stages.budget import Budget
from freezeframe.pipeline.stages.first_pass import FirstPass, first_pass
from freezeframe.pipeline.stages.measure import USUAL_SHUTTER, WARY, Memory, Survey, survey
from freezeframe.pipeline.stages.splat import Scenes
from freezeframe.pipeline.support.progress import Advance
from freezeframe.pipeline.support.report import Stopwatch

from .config import Config
from .deblur import Tools

PASS = "first pass"  # the stage, in words
LONGEST = 1.0  # frame intervals: no shutter is open for longer


def prepare(  # noqa: PLR0913  # the clip, the user's wishes, and who is told
    source: Source, config: Config, restorer: Restorer | None, *, output: Path, key: str, progress: Advance
) -> Tools:
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
    begun, watch = time.monotonic(), Stopwatch()
    with watch.stage(PASS):
        progress(0, source.count, "first pass")
        look = first_pass(
            source, config.gate, advance=lambda done: progress(done, source.count, "first pass")
        )
    reading = watch.seconds[PASS] / look.frames
    moves = config.strength > 0 and moving(look, config)
    with watch.stage("survey"):
        seen = survey(source, config.measure, progress=progress) if moves else unmeasured(config)
    with watch.stage("adapt"):
        network, notes = (
            network_of(config, source, shutter=seen.shutter, output=output, key=key, progress=progress)
            if moves
            else (None, ())
        )
    seconds = math.inf if config.budget is None else 60 * config.budget - (time.monotonic() - begun)
    return Tools(
        look=look,
        excesses=[look.excess(index, seen.longest, config.gate) for index in range(look.frames)],
        survey=seen,
        network=network,
        restorer=restorer,
        memory=Memory(),
        scenes=Scenes(),
        watch=watch,
        budget=Budget(seconds, megapixels=math.prod(look.size) / 1e6, reading=reading),
        notes=notes,
    )


def moving(look: FirstPass, config: Config) -> bool:
    """Whether anything moves fast enough to be blurred, however long the shutter was open."""
    level = WARY * config.gate.soft
    shutter = config.measure.shutter or LONGEST
    return any(look.excess(index, shutter, config.gate) >= level for index in range(look.frames))


def unmeasured(config: Config) -> Survey:
    """What is said of a shutter that nobody asks for."""
    shutter = config.measure.shutter or USUAL_SHUTTER
    return Survey(
        estimate=None, shutter=shutter, longest=shutter, confidence=float(bool(config.measure.shutter))
    )


def ready(config: Config) -> Restorer | None:
    """The restorer that the user named, by file or by name, or None; what is not to be had is learned now."""
    find_device(config.device)
    weights_of(config)
    if config.refine.checkpoint is None:
        return None
    weights = find(str(config.refine.checkpoint))
    return load_restorer(weights.path, device=config.device, precision=config.precision)
