"""The stages of one frame: source, shots, measure, fuse, splat, refine, gate, sink. Read this file first."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from freezeframe.data.errors import UnreadableMedia
from freezeframe.data.media.folder.confidence_maps import ConfidenceMapFolder
from freezeframe.data.types import Frame, Sink, Source
from freezeframe.models.imageops.tiling import Restorer
from freezeframe.models.registry.bundled import FusionInference
from freezeframe.models.runtime.device import find_device
from freezeframe.pipeline.stages.blurred_parts import with_regions
from freezeframe.pipeline.stages.candidates import CANDIDATE_PARAMS, camera_blur, select_candidates
from freezeframe.pipeline.stages.confidence_map import confidence_map
from freezeframe.pipeline.stages.continuity import FADE_RADIUS
from freezeframe.pipeline.stages.first_pass import ThumbnailMotion
from freezeframe.pipeline.stages.flows import FlowCache
from freezeframe.pipeline.stages.fuse import fuse
from freezeframe.pipeline.stages.fusion_network import run_fusion_network
from freezeframe.pipeline.stages.gate import Proposal, RegionProposal, moving_mask, propose
from freezeframe.pipeline.stages.layers.cache import LayerCache
from freezeframe.pipeline.stages.layers.crops import CROP_PARAMS
from freezeframe.pipeline.stages.measure import blur_weights, measure
from freezeframe.pipeline.stages.moving_area import MovingArea, find_changes, find_moving_area, limit_layers
from freezeframe.pipeline.stages.refine import refine
from freezeframe.pipeline.stages.settle import SettledFrame, StrengthSmoother
from freezeframe.pipeline.stages.shots import Window, windows
from freezeframe.pipeline.stages.splat import SceneLog, splat
from freezeframe.pipeline.stages.survey import Survey
from freezeframe.pipeline.support.limits.budget import Budget, FrameWork
from freezeframe.pipeline.support.report import ShotLog, Stopwatch

from .config import Config, GateConfig

BUDGET_WINDOW = 4  # frames of a window under a time limit; the remaining time is checked per window
NOT_BLURRED, OUT_OF_TIME = "not blurred enough", "no time left within --budget"


@dataclass(slots=True, kw_only=True)
class ClipState:
    """Results of `prepare`, then the mutable state of the run: caches, times, remaining budget."""

    thumbnail_motion: ThumbnailMotion
    work: Sequence[FrameWork]  # expected on every frame
    survey: Survey
    network: FusionInference | None
    restorer: Restorer | None
    notes: tuple[str, ...]  # remarks for the user
    flow_cache: FlowCache
    layer_cache: LayerCache
    scenes: SceneLog
    watch: Stopwatch
    budget: Budget
    proposed: int = 0  # frames whose correction is known; the last of them wait for those after them

    def camera_is_still(self, index: int) -> bool:
        """Whether the camera stands still at frame `index`: then only movers are blurred."""
        motion, shutter = self.thumbnail_motion, self.survey.max_shutter
        return camera_blur(motion.regions, index, motion.size, shutter) <= CANDIDATE_PARAMS.still_blur

    def remaining_work(self, first: int, config: Config) -> tuple[int, float]:
        """Number of frames to process from frame `first` on, and seconds until the end of the run."""
        ramp_start = config.gate.ramp_start if config.strength else math.inf
        remaining = self.work[max(first, self.proposed) :]
        count = sum(each.blur_ratio >= ramp_start for each in remaining)
        return count, self.budget.estimate(remaining, ramp_start=ramp_start)


def deblur(  # noqa: PLR0913  # source, outputs, state, settings, and the callback
    source: Source,
    sink: Sink,
    state: ClipState,
    *,
    config: Config,
    on_progress: Callable[[int], None],
    maps: ConfidenceMapFolder | None = None,
) -> ShotLog:
    """Deblur every frame of `source` that needs it, and write all frames to `sink`, in order.

    Args:
        source: Frames, streamed.
        sink: Receives the finished frames; those of an interrupted run are not processed again.
        state: Result of `prepare`.
        config: Settings.
        on_progress: Called with the number of frames finished since the last call.
        maps: Receives the confidence map of each changed frame, before the sink receives the frame.

    Returns:
        Verdict and cost of each frame.

    Raises:
        UnreadableMedia: The source has more frames than in the first pass.
    """
    log, first = ShotLog(), sink.finished_frames
    if first >= state.thumbnail_motion.frames:
        return log
    smoother = StrengthSmoother(first=first, strength=config.strength)
    for window in clip_windows(source, state, config=config, first=first):
        with state.watch.window() as seconds:
            proposals = propose_window(window, state, config=config, first=first)
            settled = smoother.add(proposals, last=state.thumbnail_motion.ends_shot(window.written[-1].index))
            with state.watch.stage("write"):
                if maps is not None:
                    write_maps(settled, maps)
                sink.write([each.frame for each in settled])
        state.proposed = window.written[-1].index + 1
        state.budget.update([state.work[frame.index] for frame in window.written], seconds)
        log.add(window.shot, [each.verdict for each in settled], seconds)
        on_progress(len(settled))
    return log


def write_maps(settled: Sequence[SettledFrame], maps: ConfidenceMapFolder) -> None:
    """Write the confidence maps of the changed frames."""
    for each in settled:
        if each.verdict.action == "deblurred":
            maps.write(each.frame.index, confidence_map(each.proposal, each.strength))


def clip_windows(source: Source, state: ClipState, *, config: Config, first: int) -> Iterator[Window]:
    """Windows from the shot of frame `first` on.

    A resumed run starts at the beginning of the shot too: the same windows give the same frames.
    """
    begin = state.thumbnail_motion.first_of_shot(first)
    shots = replace(config.shots, max_frames=BUDGET_WINDOW) if state.budget.is_limited else config.shots
    cuts = state.thumbnail_motion.cuts
    context = max(shots.context, CROP_PARAMS.reach)
    for window in windows(source.frames(first=begin), shots, cuts=cuts, start=begin, context=context):
        if window.written[-1].index >= state.thumbnail_motion.frames:
            raise UnreadableMedia(f"{source.name}: grew while it was read; rerun when nothing writes to it")
        yield window


def propose_window(window: Window, state: ClipState, *, config: Config, first: int = 0) -> list[Proposal]:
    """Proposals for the frames that one window writes.

    Args:
        window: Frames of one shot.
        state: Result of `prepare`.
        config: Settings.
        first: Frames before it were written by an earlier run; only their shutter is needed.
    """
    to_come = state.work[window.written[0].index :]
    thresholds = config.gate.scale_thresholds(
        state.budget.threshold_scale(to_come, ramp_start=config.gate.ramp_start)
    )
    motion = state.thumbnail_motion
    with state.watch.stage("layers"):
        layers: Mapping[int, Sequence[RegionProposal]] = (
            state.layer_cache.propose(window, motion.regions, state.survey, thresholds)
            if config.strength
            else {}
        )
    with state.watch.stage("thumbnail"):
        positions = select_candidates(
            window, motion, state.survey, state.flow_cache, thresholds,
            corrected={
                index: [each.verdict.box for each in found if each.verdict.strength == 1]
                for index, found in layers.items()
            },
        )  # fmt: skip
        changes = find_changes(window, motion.regions) if positions or any(layers.values()) else {}
        layers = limit_layers(window, layers, changes)
    already_written = window.written[-1].index < first - FADE_RADIUS
    proposals: dict[int, Proposal] = {}
    if positions and config.strength and not (already_written and state.flow_cache.has_shutter(window.shot)):
        part = window.subwindow(positions, context=config.shots.context)
        still = {frame.index for frame in part.frames if state.camera_is_still(frame.index)}
        with state.watch.stage("thumbnail"):
            area = find_moving_area(
                part, changes, layers,
                still=still, shutter=state.survey.max_shutter, crop=config.splat.mode == "off",
            )  # fmt: skip
        candidates = set() if already_written else {window.frames[i].index for i in positions}
        proposals = deblur_frames(part, candidates, state, thresholds, area=area, config=config)
    whole = [proposals.get(frame.index) or unprocessed(frame, state, config.gate) for frame in window.written]
    return [replace(each, regions=tuple(layers.get(each.frame.index, ()))) for each in whole]


def deblur_frames(  # noqa: PLR0913  # a window, and what to do with it
    window: Window,
    candidates: set[int],
    state: ClipState,
    thresholds: GateConfig,
    *,
    area: MovingArea,
    config: Config,
) -> dict[int, Proposal]:
    """Run the stages on the frames of `window` that are among `candidates` and blurred.

    Args:
        window: Frames of one shot; all of them are read.
        candidates: Numbers of the frames that may be blurred.
        state: Result of `prepare`.
        thresholds: Blur thresholds, raised if time is short.
        area: The part of the frames that is read, and that may change.
        config: Settings.

    Returns:
        Proposals by the number of the frame.
    """
    stage = state.watch.stage
    with stage("decode"):
        clip = window.clip(shutter=state.survey.shutter, box=area.box)
    with stage("measure"):
        motion = measure(clip, window.shot, state.survey, config=config.measure, flow_cache=state.flow_cache)
        weights = blur_weights(motion, thresholds, clip.whole_size)
        which = [i for i in clip.owned if weights[i] > 0 and window.frames[i].index in candidates]
    with stage("fuse"):
        fused = fuse(clip, motion, config.fuse, which=which)
    with stage("fusion_network"):
        sharp = run_fusion_network(fused, clip, motion, state.network, which=which)
    with stage("splat"):
        splatted = splat(
            sharp, clip, motion, config.splat,
            which=which, confidence=state.survey.confidence, scenes=state.scenes,
            device=find_device(config.device),
        )  # fmt: skip
    with stage("refine"):
        refined = refine(splatted, state.restorer, config.refine)
    with stage("gate"):
        proposals = {}
        for i, image, blur_vector in zip(which, refined, fused.blur_vectors, strict=True):
            frame, mask = window.frames[i], area.limit(window.frames[i].index, moving_mask(blur_vector))
            proposal = propose(
                frame, clip.images[i], image, blur_vector, config.gate, box=area.box, mask=mask
            )
            proposal = with_regions(proposal, blur_vector, shutter=motion.shutter)
            proposals[frame.index] = replace(proposal, weight=weights[i])
        return proposals


def unprocessed(frame: Frame, state: ClipState, config: GateConfig) -> Proposal:
    """A frame without a correction, and its blur as estimated by the first pass."""
    local_px = state.thumbnail_motion.extent(frame.index).local_px * state.survey.shutter
    out_of_time = state.budget.is_limited and state.work[frame.index].blur_ratio >= config.ramp_start
    return Proposal(frame=frame, blur=local_px, reason=OUT_OF_TIME if out_of_time else NOT_BLURRED)
