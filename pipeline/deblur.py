"""One frame's path: source, shots, measure, fuse, splat, refine, gate, sink. Read this file first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from freezeframe.data.errors import UnreadableMedia
from freezeframe.data.types import Frame, Sink, Source
from freezeframe.models.imageops.tiling import Restorer
from freezeframe.models.registry.bundled import FusionInference
from freezeframe.models.runtime.device import find_device
from freezeframe.pipeline.stages.budget import Budget
from freezeframe.pipeline.stages.continuity import FADE_RADIUS
from freezeframe.pipeline.stages.first_pass import ThumbnailMotion
from freezeframe.pipeline.stages.fuse import fuse
from freezeframe.pipeline.stages.fusion_network import finish
from freezeframe.pipeline.stages.gate import Proposal, propose
from freezeframe.pipeline.stages.measure import FlowCache, Survey, blur_weights, candidates, measure
from freezeframe.pipeline.stages.refine import refine
from freezeframe.pipeline.stages.settle import StrengthSmoother
from freezeframe.pipeline.stages.shots import Window, windows
from freezeframe.pipeline.stages.splat import SceneLog, splat
from freezeframe.pipeline.support.report import ShotLog, Stopwatch

from .config import Config, GateConfig

BUDGET_WINDOW = 4  # frames of a window where time is short: so often it is seen what is left
NOT_BLURRED, OUT_OF_TIME = "not blurred enough", "no time left within --budget"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipState:
    """What every window needs and only the first one pays for."""

    thumbnail_motion: ThumbnailMotion
    blur_ratios: Sequence[float]  # of every frame, how many times over the gate's threshold its blur may be
    survey: Survey
    network: FusionInference | None
    restorer: Restorer | None
    flow_cache: FlowCache
    scenes: SceneLog
    watch: Stopwatch
    budget: Budget
    notes: tuple[str, ...]  # words to the user

    def remaining_work(self, first: int, config: Config) -> tuple[int, float]:
        """Of the frames from number `first` on: how many to work on, and seconds for all of them."""
        remaining = self.blur_ratios[first:]
        work = sum(blur_ratio >= config.gate.ramp_start for blur_ratio in remaining) if config.strength else 0
        return work, self.budget.estimate(work, len(remaining))


def deblur(
    source: Source, sink: Sink, state: ClipState, *, config: Config, on_progress: Callable[[int], None]
) -> ShotLog:
    """Sharpen every frame of `source` that needs it and write all of them to `sink`, in order.

    Args:
        source: Frames, streamed.
        sink: Takes the finished frames; what an interrupted run finished is not done again.
        state: What is known of the clip before its first frame, and the restorer.
        config: Every knob.
        on_progress: Told how many frames have been finished, for a progress bar.

    Returns:
        What was decided about each frame and what it cost.
    """
    log, first = ShotLog(), sink.finished_frames
    if first >= state.thumbnail_motion.frames:
        return log
    smoother = StrengthSmoother(first=first, strength=config.strength)
    # From the beginning of a shot also where a run goes on in its middle: the same windows, the same frames.
    begin = state.thumbnail_motion.first_of_shot(first)
    shots = replace(config.shots, max_frames=BUDGET_WINDOW) if state.budget.is_limited else config.shots
    for window in windows(source.frames(first=begin), shots, cuts=state.thumbnail_motion.cuts, start=begin):
        if window.written[-1].index >= state.thumbnail_motion.frames:
            raise UnreadableMedia(f"{source.name}: grew while it was read; rerun when nothing writes to it")
        with state.watch.window() as seconds:
            proposals = propose_window(window, state, config=config, first=first)
            gated = smoother.add(proposals, last=state.thumbnail_motion.ends_shot(window.written[-1].index))
            with state.watch.stage("write"):
                sink.write([frame for frame, _ in gated])
        state.budget.update(sum(each.image is not None for each in proposals), seconds)
        log.add(window.shot, [verdict for _, verdict in gated], seconds)
        on_progress(len(gated))
    return log


def propose_window(window: Window, state: ClipState, *, config: Config, first: int = 0) -> list[Proposal]:
    """What could become of each frame that one window writes.

    Args:
        window: Frames of one shot.
        state: What is known of the clip.
        config: Every knob.
        first: Frames before this one were written by an earlier run: only their shutter is of interest.
    """
    stage = state.watch.stage
    to_come = state.blur_ratios[window.written[0].index :]
    thresholds = config.gate.scale_thresholds(
        state.budget.threshold_scale(to_come, ramp_start=config.gate.ramp_start)
    )
    with stage("look"):
        candidate_indices = candidates(
            window, state.thumbnail_motion, state.survey, state.flow_cache, thresholds
        )
    written = window.written[-1].index < first - FADE_RADIUS
    if (
        not candidate_indices
        or config.strength == 0
        or (written and state.flow_cache.has_shutter(window.shot))
    ):
        return [unprocessed(frame, state, config.gate) for frame in window.written]
    part = window.subwindow(candidate_indices, context=config.shots.context)
    with stage("light"):
        clip = part.clip(shutter=state.survey.shutter)
    with stage("measure"):
        motion = measure(clip, part.shot, state.survey, config=config.measure, flow_cache=state.flow_cache)
        weights = blur_weights(motion, thresholds)
        requested_indices = {window.frames[i].index for i in candidate_indices if not written}
        which = [i for i in clip.owned if weights[i] > 0 and part.frames[i].index in requested_indices]
    with stage("fuse"):
        fused = fuse(clip, motion, config.fuse, which=which)
        sharp = finish(fused, clip, motion, state.network, which=which)
    with stage("splat"):
        splatted = splat(
            sharp, clip, motion, config.splat,
            which=which, confidence=state.survey.confidence, scenes=state.scenes,
            device=find_device(config.device),
        )  # fmt: skip
    with stage("refine"):
        refined = refine(splatted, state.restorer, config.refine)
    with stage("gate"):
        proposed = {
            part.frames[i].index: replace(
                propose(part.frames[i], clip.images[i], image, blur_vector, config.gate), weight=weights[i]
            )
            for i, image, blur_vector in zip(which, refined, fused.blur_vectors, strict=True)
        }
        return [
            proposed.get(frame.index) or unprocessed(frame, state, config.gate) for frame in window.written
        ]


def unprocessed(frame: Frame, state: ClipState, config: GateConfig) -> Proposal:
    """A frame that passes as it came, and how far it seems to be blurred."""
    local_px = state.thumbnail_motion.extent(frame.index).local_px * state.survey.shutter
    out_of_time = state.budget.is_limited and state.blur_ratios[frame.index] >= config.ramp_start
    return Proposal(frame=frame, blur=local_px, reason=OUT_OF_TIME if out_of_time else NOT_BLURRED)
