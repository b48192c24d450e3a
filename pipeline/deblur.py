"""One frame's path: source, shots, measure, fuse, splat, refine, gate, sink. Read this file first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from freezeframe.data.errors import UnreadableMedia
from freezeframe.data.types import Frame, Sink, Source
from freezeframe.models.registry.bundled import Network
from freezeframe.models.restorer.load import Restorer
from freezeframe.models.runtime.device import find_device
from freezeframe.pipeline.stages.budget import Budget
from freezeframe.pipeline.stages.continuity import REACH
from freezeframe.pipeline.stages.first_pass import FirstPass
from freezeframe.pipeline.stages.fuse import fuse
from freezeframe.pipeline.stages.fusion_network import finish
from freezeframe.pipeline.stages.gate import Proposal, propose
from freezeframe.pipeline.stages.measure import Memory, Survey, blur_weights, candidates, measure
from freezeframe.pipeline.stages.refine import refine
from freezeframe.pipeline.stages.settle import Settling
from freezeframe.pipeline.stages.shots import Window, windows
from freezeframe.pipeline.stages.splat import Scenes, splat
from freezeframe.pipeline.support.report import ShotLog, Stopwatch

from .config import Config, GateConfig

HURRIED = 4  # frames of a window where time is short: so often it is seen what is left
SHARP, LATE = "not blurred enough", "no time left within --budget"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What every window needs and only the first one pays for."""

    look: FirstPass
    excesses: Sequence[float]  # of every frame, how many times over the gate's threshold its blur may be
    survey: Survey
    network: Network | None
    restorer: Restorer | None
    memory: Memory
    scenes: Scenes
    watch: Stopwatch
    budget: Budget
    notes: tuple[str, ...]  # words to the user

    def left(self, first: int, config: Config) -> tuple[int, float]:
        """Of the frames from number `first` on: how many to work on, and seconds for all of them."""
        rest = self.excesses[first:]
        work = sum(excess >= config.gate.soft for excess in rest) if config.strength else 0
        return work, self.budget.estimate(work, len(rest))


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
    log, first = ShotLog(), sink.finished
    if first >= tools.look.frames:
        return log
    settling = Settling(first=first, strength=config.strength)
    # From the beginning of a shot also where a run goes on in its middle: the same windows, the same frames.
    begin = tools.look.first_of_shot(first)
    shots = replace(config.shots, longest=HURRIED) if tools.budget.limited else config.shots
    for window in windows(source.frames(first=begin), shots, cuts=tools.look.cuts, start=begin):
        if window.written[-1].index >= tools.look.frames:
            raise UnreadableMedia(f"{source.name}: grew while it was read; rerun when nothing writes to it")
        with tools.watch.window() as seconds:
            proposals = propose_window(window, tools, config=config, first=first)
            settled = settling.add(proposals, last=tools.look.ends_shot(window.written[-1].index))
            with tools.watch.stage("write"):
                sink.write([frame for frame, _ in settled])
        tools.budget.learn(sum(each.image is not None for each in proposals), seconds)
        log.add(window.shot, [verdict for _, verdict in settled], seconds)
        advance(len(settled))
    return log


def propose_window(window: Window, tools: Tools, *, config: Config, first: int = 0) -> list[Proposal]:
    """What could become of each frame that one window writes.

    Args:
        window: Frames of one shot.
        tools: What is known of the clip.
        config: Every knob.
        first: Frames before this one were written by an earlier run: only their shutter is of interest.
    """
    stage = tools.watch.stage
    to_come = tools.excesses[window.written[0].index :]
    limits = config.gate.raised(tools.budget.scale(to_come, soft=config.gate.soft))
    with stage("look"):
        suspects = candidates(window, tools.look, tools.survey, tools.memory, limits)
    written = window.written[-1].index < first - REACH
    if not suspects or config.strength == 0 or (written and tools.memory.knows_shutter(window.shot)):
        return [unprocessed(frame, tools, config.gate) for frame in window.written]
    part = window.around(suspects, context=config.shots.context)
    with stage("light"):
        clip = part.clip(shutter=tools.survey.shutter)
    with stage("measure"):
        motion = measure(clip, part.shot, tools.survey, config=config.measure, memory=tools.memory)
        weights = blur_weights(motion, limits)
        asked = {window.frames[i].index for i in suspects if not written}
        which = [i for i in clip.kept if weights[i] > 0 and part.frames[i].index in asked]
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
        proposed = {
            part.frames[i].index: replace(
                propose(part.frames[i], clip.images[i], image, way, config.gate), weight=weights[i]
            )
            for i, image, way in zip(which, refined, fused.ways, strict=True)
        }
        return [
            proposed.get(frame.index) or unprocessed(frame, tools, config.gate) for frame in window.written
        ]


def unprocessed(frame: Frame, tools: Tools, config: GateConfig) -> Proposal:
    """A frame that passes as it came, and how far it seems to be blurred."""
    far = tools.look.extent(frame.index).far * tools.survey.shutter
    late = tools.budget.limited and tools.excesses[frame.index] >= config.soft
    return Proposal(frame=frame, blur=far, reason=LATE if late else SHARP)
