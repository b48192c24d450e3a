"""Preparation of a fit: frames, motion, shutter fraction, cameras."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
from freezeframe.pipeline.solvers.camera_poses import CameraPoses, match_poses, run_sfm
from freezeframe.pipeline.solvers.scene_fit import OnProgress, Shot, Shutter, require_feasible
from freezeframe.pipeline.stages.first_pass import is_cut
from freezeframe.pipeline.stages.flows import ESTIMATORS, FlowPair, Flows, adjacent_flows
from freezeframe.pipeline.stages.survey import SURVEY_PARAMS
from freezeframe.pipeline.support.limits.deadline import Deadline, DeadlineCheck
from freezeframe.pipeline.support.progress import ProgressCallback
from freezeframe.splatting.io.colmap_worker import FrameOrder
from freezeframe.splatting.io.nerf_datasets import PosedImages
from freezeframe.splatting.io.sfm import TimeLimit

from .sharpen_shot import sharpen_shot

MAX_BYTES = 2 * 10**9  # of linear RGB in memory; the fit takes several times as much
PREPARE_PASSES = 4  # units of work per frame before the fit: read, flow, register, deblur
PHOTO_SHUTTER_FRACTION = 0.05  # of photos: the time between them is unrelated to their blur


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneContext:
    """Time limit and progress callbacks of a command."""

    deadline: Deadline
    on_fit_progress: OnProgress
    on_prepare_progress: ProgressCallback

    def check_deadline(self, activity: str, total: int) -> DeadlineCheck:
        """A check before each of `total` units of work, reported as part of the preparation."""
        return self.deadline.check_deadline(activity, self.on_prepare_progress, PREPARE_PASSES * total)


def read_frames(source: VideoSource | ImageFolderSource, context: SceneContext) -> list[Frame]:
    """Read all frames of one shot.

    Raises:
        NoScene: The frames exceed the memory limit, or there is a scene cut.
    """
    frames: list[Frame] = []
    for frame in source.frames():
        context.check_deadline("frames were read", source.count or len(frames) + 1)()
        frames.append(frame)
        height, width = frame.picture.size
        if 12 * height * width * len(frames) > MAX_BYTES:
            raise NoScene("the frames do not fit into memory; select a part with --start and --end")
        if len(frames) > 1 and is_cut(frames[-2].picture.luma(), frame.picture.luma()):
            raise NoScene(
                f"there is a scene cut at frame {frame.index} ({float(frame.time):.2f} s); select a part"
                " without cuts with --start and --end"
            )
    return frames


def measure_shot(
    frames: Sequence[Frame], config: Config, context: SceneContext, *, photos: bool, posed: bool
) -> tuple[Shot, Tensor]:
    """Estimate camera and shutter fraction of a shot, and deblur its frames.

    Args:
        frames: Frames of one shot.
        config: Settings of measurement and fusion.
        context: Time limit and progress.
        photos: The frames are photos, without a time between them.
        posed: Camera poses are known.

    Returns:
        The shot, and its frames [T, 3, H, W] as deblurred as possible, for structure from motion.

    Raises:
        NoScene: The shot is rejected, before the costly deblurring.
    """
    images, count = stack_linear(frames), len(frames)
    pair = ESTIMATORS[config.measure.estimator]
    check_measured = context.check_deadline("motion was measured", count)
    flows = adjacent_flows(images, partial(_timed_flow_pair, pair, check_measured))
    shutter = _shutter(images, flows, config, photos=photos)
    times = _times(frames)
    check_registered = context.check_deadline("frames were registered", count)
    camera = estimate_camera(images, times, flows, shutter=shutter.fraction, check_deadline=check_registered)
    shot = Shot(images=images, camera=camera, shutter=shutter)
    if photos:  # the motion between photos is unrelated to their blur
        return shot, images
    if not posed:
        require_feasible(shot)
    exact_times = [frame.time for frame in frames]
    check_deblurred = context.check_deadline("frames were deblurred", count)
    deblurred = sharpen_shot(
        images, exact_times, flows, shutter=shutter.fraction, config=config, check_deadline=check_deblurred
    )
    return replace(shot, restored=deblurred.gated), deblurred.full


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
    estimate = estimate_shutter(images, flows)
    return Shutter(
        fraction=estimate.fraction if estimate.confidence else SURVEY_PARAMS.prior_mean,
        confidence=estimate.confidence,
    )


def locate_cameras(
    shot: Shot, sharp_images: Tensor, frames: Sequence[Frame], source: Path, *, context: SceneContext
) -> CameraPoses | None:
    """Estimate camera poses by structure from motion; None without parallax. Takes no gradient.

    Args:
        shot: All frames of the shot.
        sharp_images: Its frames, deblurred. [T, 3, H, W] linear RGB.
        frames: Its frames with their times.
        source: A video, or a folder of photos in any order.
        context: Time limit and progress.

    Raises:
        NoScene: Too few frames could be registered, or the time limit was exceeded.
    """
    if shot.camera.path.kind != "parallax":
        return None
    order: FrameOrder = "photos" if source.is_dir() else "clip"
    limit = TimeLimit(check_deadline=lambda: context.on_prepare_progress(0, PREPARE_PASSES * len(frames)))
    if context.deadline.end < math.inf:  # half of the remaining time, the rest is for the fit
        limit = replace(limit, seconds=context.deadline.remaining / 2)
    return run_sfm(sharp_images, _times(frames), order=order, static=shot.camera.static, limit=limit)


def match_cameras(posed_images: PosedImages, frames: Sequence[Frame], source: Path) -> CameraPoses:
    """Camera poses of a dataset for all frames that are not held out."""
    return match_poses(posed_images, _times(frames), source=source)


def _times(frames: Sequence[Frame]) -> Tensor:
    return torch.tensor([float(frame.time) for frame in frames])
