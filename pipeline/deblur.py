"""One frame's way: source, shots, measure, fuse, splat, refine, gate, sink. Read this file first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..data.types import Sink, Source
from ..models.device import find_device
from ..models.load import Restorer
from ..models.shipped import Network
from .config import Config
from .finish import finish
from .fuse import fuse
from .gate import Finished, let_out, untouched
from .measure import Memory, Survey, blurred, is_cut, measure, stirring
from .refine import refine
from .report import ShotLog, Stopwatch
from .shots import Window, windows
from .splat import Scenes, splat


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What every window needs and only the first one pays for."""

    survey: Survey
    network: Network | None
    restorer: Restorer | None
    memory: Memory
    scenes: Scenes
    watch: Stopwatch


def deblur(
    source: Source, sink: Sink, tools: Tools, *, config: Config, advance: Callable[[int], None]
) -> ShotLog:
    """Sharpen every frame of `source` that needs it and write all of them to `sink`, in order.

    Args:
        source: Frames, streamed.
        sink: Takes the finished frames; what an interrupted run finished is not done again.
        tools: What is known of the clip before its first frame, and the restorer.
        config: Every knob.
        advance: Told how many frames have been finished, for a progress bar.

    Returns:
        What was decided about each frame and what it cost.
    """
    log = ShotLog()
    first = max(0, sink.finished - config.shots.context)
    for window in windows(source.frames(first=first), config.shots, is_cut=is_cut, start=sink.finished):
        with tools.watch.window() as seconds:
            finished = deblur_window(window, tools, config=config)
            with tools.watch.stage("write"):
                sink.write([frame for frame, _ in finished])
        log.add(window.shot, [verdict for _, verdict in finished], seconds)
        advance(len(finished))
    return log


def deblur_window(window: Window, tools: Tools, *, config: Config) -> list[Finished]:
    """The frames that one window writes, each with the reason why it looks as it does."""
    stage = tools.watch.stage
    with stage("look"):
        suspects = stirring(window, tools.survey, config)
    if not suspects:
        return [untouched(frame, "nothing moves fast enough to blur") for frame in window.written]
    part = window.around(suspects, context=config.shots.context)
    with stage("light"):
        clip = part.clip(shutter=tools.survey.shutter)
    with stage("measure"):
        motion = measure(clip, part.shot, tools.survey, config=config.measure, memory=tools.memory)
        which = blurred(motion, clip.kept, config.gate)
    with stage("fuse"):
        fused = fuse(clip, motion, config.fuse, which=which)
        sharp = finish(fused, clip, motion, tools.network, which=which)
    with stage("splat"):
        whole = splat(
            sharp, clip, motion, config.splat,
            which=which, confidence=tools.survey.confidence, scenes=tools.scenes,
            place=find_device(config.device),
        )  # fmt: skip
    with stage("refine"):
        refined = refine(whole, tools.restorer, config.refine)
    with stage("gate"):
        passed = {
            part.frames[i].index: let_out(part.frames[i], clip.images[i], image, way, config=config)
            for i, image, way in zip(which, refined, fused.ways, strict=True)
        }
        return [passed.get(frame.index) or untouched(frame, "sharp enough") for frame in window.written]
