"""What `freezeframe scene` knows of its footage before the fit: frames, motion, cameras."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from freezeframe.data.errors import NoScene
from freezeframe.data.media.folder.source import ImageFolderSource
from freezeframe.data.media.video_in.source import VideoSource
from freezeframe.data.types import Flow, Frame, stack_linear
from freezeframe.motion.shutter.estimator import estimate_shutter
from freezeframe.pipeline.config import Config
from freezeframe.pipeline.solvers.camera_estimation import estimate_camera
from freezeframe.pipeline.solvers.camera_poses import match_poses, run_sfm
from freezeframe.pipeline.solvers.scene_fit import Shot, Shutter, check_feasibility, with_depth
from freezeframe.pipeline.stages.first_pass import is_cut
from freezeframe.pipeline.stages.flows import ESTIMATORS, FlowPair, Flows, adjacent_flows
from freezeframe.pipeline.stages.survey import SURVEY_PARAMS
from freezeframe.pipeline.support.deadline import Deadline, DeadlineCheck
from freezeframe.pipeline.support.progress import ProgressCallback
from freezeframe.splatting.io.colmap_worker import FrameOrder
from freezeframe.splatting.io.nerf_datasets import PosedImages
from freezeframe.splatting.io.sfm import TIMEOUT_SECONDS
from freezeframe.splatting.optim.optimizer import FitProgress

from .sharpen_shot import sharpen_shot

MAX_BYTES = 2 * 10**9  # bytes of light held at once; what is made of it takes several times as many
PREPARE_PASSES = 4  # times that every frame is worked on before the fit: read, flow, registered, sharpened
PHOTO_SHUTTER_FRACTION = 0.05  # shutter of photographs: the time between them says nothing of their blur


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneContext:
    """How long the work may take, and who is told how it goes."""

    deadline: Deadline
    on_fit_progress: Callable[[FitProgress], None]
    on_prepare_progress: ProgressCallback

    def check_deadline(self, activity: str, total: int) -> DeadlineCheck:
        """Called before each of `total` pieces of work."""
        return self.deadline.check_deadline(activity, self.on_prepare_progress, PREPARE_PASSES * total)


def read_frames(source: VideoSource | ImageFolderSource, context: SceneContext) -> list[Frame]:
    """Every frame of a short clip; a scene is fitted to all of them at once."""
    frames: list[Frame] = []
    for frame in source.frames():
        context.check_deadline("frames were read", source.count or len(frames) + 1)()
        frames.append(frame)
        height, width = frame.picture.size
        if 12 * height * width * len(frames) > MAX_BYTES:
            raise NoScene("these are more frames than fit into memory; name a part with --start and --end")
        if len(frames) > 1 and is_cut(frames[-2].picture.luma(), frame.picture.luma()):
            raise NoScene(
                f"the scene changes at frame {frame.index} ({float(frame.time):.2f} s); name a part within"
                " one with --start and --end"
            )
    return frames


def measure_shot(
    frames: Sequence[Frame], config: Config, context: SceneContext, *, photos: bool, posed: bool
) -> tuple[Shot, Tensor]:
    """What is known of the footage, and the clearest pictures [T, 3, H, W] that COLMAP can be shown.

    What cannot be rebuilt is refused as soon as that is known, before the work that takes long.
    """
    images, count = stack_linear(frames), len(frames)
    pair, check_matched = (
        ESTIMATORS[config.measure.estimator],
        context.check_deadline("motion was measured", count),
    )
    flows = adjacent_flows(images, partial(_timed_flow_pair, pair, check_matched))
    shutter = _shutter(images, flows, config, photos=photos)
    times = torch.tensor([float(frame.time) for frame in frames])
    check_registered = context.check_deadline("frames were registered", count)
    camera = estimate_camera(images, times, flows, shutter=shutter.fraction, check_deadline=check_registered)
    shot = Shot(images=images, camera=camera, shutter=shutter)
    if photos:  # no neighbours in time: what lies between them says nothing of their blur
        return shot, images
    if not posed and not (feasibility := check_feasibility(shot)):
        raise NoScene(feasibility.reason)
    exact_times = [frame.time for frame in frames]
    check_sharpened = context.check_deadline("frames were sharpened", count)
    sharpened_shot = sharpen_shot(
        images, exact_times, flows, shutter=shutter.fraction, config=config, check_deadline=check_sharpened
    )
    return replace(shot, restored=sharpened_shot.gated), sharpened_shot.full


def _timed_flow_pair(
    pair: FlowPair, check_deadline: DeadlineCheck, source: Tensor, target: Tensor
) -> tuple[Flow, Flow]:
    check_deadline()
    return pair(source, target)


def _shutter(images: Tensor, flows: Flows, config: Config, *, photos: bool) -> Shutter:
    if config.measure.shutter is not None:
        return Shutter(fraction=config.measure.shutter, confidence=1.0)
    if photos:
        return Shutter(fraction=PHOTO_SHUTTER_FRACTION, confidence=1.0)
    found = estimate_shutter(images, flows)
    return Shutter(
        fraction=found.fraction if found.confidence else SURVEY_PARAMS.prior_mean, confidence=found.confidence
    )


def locate_shot(  # noqa: PLR0913, PLR0917
    shot: Shot,
    sharp_images: Tensor,
    frames: Sequence[Frame],
    posed_images: PosedImages | None,
    source: Path,
    context: SceneContext,
) -> tuple[Shot, tuple[int, ...]]:
    """The shot of the frames whose cameras are known, and their numbers. Takes no gradient."""
    times = torch.tensor([float(frame.time) for frame in frames])
    if posed_images is not None:
        poses = match_poses(posed_images, times, where=source)
    elif shot.camera.path.kind == "parallax":
        order: FrameOrder = "photos" if source.is_dir() else "clip"
        # Half of what is left of a budget: a scene whose cameras are known still has to be fitted.
        limited = context.deadline.end < math.inf
        seconds = context.deadline.remaining / 2 if limited else TIMEOUT_SECONDS
        poses = run_sfm(
            sharp_images, times, order=order, static=shot.camera.static, seconds=seconds,
            check_deadline=lambda: context.on_prepare_progress(0, PREPARE_PASSES * len(frames)),
        )  # fmt: skip
    else:
        return shot, tuple(range(len(frames)))
    return with_depth(shot, poses), poses.numbers
