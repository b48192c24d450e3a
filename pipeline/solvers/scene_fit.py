"""Rebuilding the static scene of one shot from its blur: feasibility, initialisation, fit, compositing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from freezeframe.data.errors import NoScene, is_out_of_memory
from freezeframe.pipeline.config import SplatConfig
from freezeframe.pipeline.support.progress import FitProgress
from freezeframe.splatting.camera.lie import compose_se3
from freezeframe.splatting.camera.trajectory import (
    BezierTrajectory,
    CameraTrajectory,
    SplineTrajectory,
    Views,
)
from freezeframe.splatting.decision.compositing import CompositeConfig, SceneRendering, composite
from freezeframe.splatting.decision.feasibility import (
    Feasibility,
    ShotStatistics,
    assess_feasibility,
    count_views,
    frame_overlaps,
)
from freezeframe.splatting.optim.initialization import (
    lucky_imaging_weights,
    search_exposure_motion,
    sharpness,
)
from freezeframe.splatting.optim.losses import unsaturated_mask
from freezeframe.splatting.optim.observations import Observations
from freezeframe.splatting.optim.optimizer import Fit
from freezeframe.splatting.optim.schedule import Schedule, build_schedule
from freezeframe.splatting.scene.adaptive_density import AdaptiveDensityControl
from freezeframe.splatting.scene.gaussian_model import GaussianModel, init_gaussians, pixel_footprint
from freezeframe.splatting.scene.mcmc import MCMCStrategy
from freezeframe.splatting.scene.panorama_model import SUPERSAMPLING, build_panorama

from .camera_estimation import CameraEstimate
from .camera_poses import CameraPoses

PANORAMA_STEPS = 800  # default steps of the optimiser
GAUSSIAN_STEPS = 3000  # default steps of the optimiser
BEZIER_TEMPORAL_TV = 1e-3  # weight of changes between sub-frames
MIN_SHUTTER_CONFIDENCE = 0.8  # from which a measured shutter fraction is not optimised

OnProgress = Callable[[FitProgress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shutter:
    """Estimate of the shutter fraction."""

    fraction: float  # exposure time over frame interval
    confidence: float  # [0, 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """Frames of one shot with camera and shutter, on the CPU."""

    images: Tensor  # [T, 3, H, W] linear RGB
    camera: CameraEstimate
    shutter: Shutter
    restored: Tensor | None = None  # [T, 3, H, W] the frames after the video pipeline
    points: Tensor | None = None  # [P, 3] of a scene with depth

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.images.shape[2], self.images.shape[3]


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedShot:
    """A finished fit of the registered frames of a shot."""

    fit: Fit
    shot: Shot  # the registered frames
    numbers: tuple[int, ...]  # their indices in the original shot
    feasibility: Feasibility


def check_feasibility(shot: Shot) -> Feasibility:
    """Assess whether the scene of a shot can be rebuilt from its blur.

    Overlap and registration of a camera with parallax are not assessed before its poses are known.
    """
    camera = shot.camera
    poses_unknown = camera.path.kind == "parallax" and shot.points is None
    if camera.unregistered and not poses_unknown:
        return Feasibility(
            mode="rejected",
            reason=f"frame {camera.unregistered[0]} could not be registered with the one before it: too"
            " blurred, or with other content",
        )
    statistics = ShotStatistics(
        static=camera.static.mean((1, 2)),
        overlap=camera.static.new_ones(0)
        if poses_unknown
        else frame_overlaps(camera.path, shot.size, points=shot.points),
        blur=camera.velocity * shot.shutter.fraction,
        sharpness=sharpness(shot.images, camera.static),
        kind=camera.path.kind,
    )
    return assess_feasibility(statistics)


def require_feasible(shot: Shot) -> Feasibility:
    """Assess a shot.

    Raises:
        NoScene: It is rejected.
    """
    feasibility = check_feasibility(shot)
    if feasibility.rejected:
        raise NoScene(feasibility.reason)
    return feasibility


def fit_shot(
    shot: Shot,
    poses: CameraPoses | None,
    config: SplatConfig,
    *,
    run_fit: Callable[[Fit], None],
    device: torch.device | None = None,
) -> FittedShot:
    """Assess a shot with its poses, build the fit and run it.

    Args:
        shot: All frames.
        poses: Cameras and points of a scene with depth; None for a rotating camera.
        config: Settings of the fit.
        run_fit: Optimises the fit, such as `run`.
        device: Device of the fit; None for the CPU.

    Raises:
        NoScene: The shot is rejected.
    """
    numbers = tuple(range(len(shot.images))) if poses is None else poses.numbers
    registered = shot if poses is None else with_depth(shot, poses)
    feasibility = require_feasible(registered)
    fit = build_fit(registered, feasibility, config, device=device)
    run_fit(fit)
    return FittedShot(fit=fit, shot=registered, numbers=numbers, feasibility=feasibility)


def with_depth(shot: Shot, poses: CameraPoses) -> Shot:
    """The registered frames of a shot, with poses and points."""
    indices, estimate = list(poses.numbers), shot.camera
    camera = replace(
        estimate,
        path=poses.path,
        static=estimate.static[indices],
        velocity=estimate.velocity[indices],
        unregistered=(),
    )
    restored = None if shot.restored is None else shot.restored[indices]
    return replace(shot, images=shot.images[indices], camera=camera, restored=restored, points=poses.points)


def build_fit(
    shot: Shot, feasibility: Feasibility, config: SplatConfig, *, device: torch.device | None = None
) -> Fit:
    """The initialised fit of a panorama (rotating camera), or of Gaussians (shot with points).

    Args:
        shot: Registered frames.
        feasibility: Whether exposures have offsets, and the shutter fraction is optimised.
        config: Settings of the fit.
        device: Device of the fit; None for the CPU.
    """
    build = build_panorama_fit if shot.points is None else build_gaussian_fit
    return build(shot, feasibility, config, device=device or torch.device("cpu"))


def build_gaussian_fit(
    shot: Shot, feasibility: Feasibility, config: SplatConfig, *, device: torch.device
) -> Fit:
    """The initialised fit of Gaussians, from known poses and points."""
    if shot.points is None:
        raise ValueError("a shot with points is needed")
    path = shot.camera.path
    views = Views(
        viewmats=compose_se3(path.rotations, path.translations),
        Ks=path.intrinsics.expand(len(path.times), 3, 3),
    )
    pixel = pixel_footprint(shot.points, views)
    depth = pixel * float(path.intrinsics[0, 0])
    trajectory = _trajectory(shot, config, depth=depth)
    initial = init_gaussians(shot.points, views, shot.images, count=config.gaussians)
    strategy = (
        MCMCStrategy(cap_max=config.gaussians)
        if config.densify == "mcmc"
        else AdaptiveDensityControl(extent=depth, cap_max=config.gaussians)
    )
    model = GaussianModel(initial, pixel=pixel, strategy=strategy).to(device)
    return Fit(
        model,
        trajectory.to(device),
        build_observations(shot).to(device),
        _schedule(shot, feasibility, config),
    )


def build_panorama_fit(
    shot: Shot, feasibility: Feasibility, config: SplatConfig, *, device: torch.device
) -> Fit:
    """The initialised fit of a panorama."""
    trajectory = _trajectory(shot, config)
    schedule = _schedule(shot, feasibility, config)
    downscale = schedule.phases[0].downscale
    density = float(shot.camera.path.intrinsics[0, 0]) * SUPERSAMPLING / downscale
    panorama = build_panorama(trajectory, len(shot.images), shot.size, density=density).to(device)
    trajectory = trajectory.to(device)
    fit = Fit(panorama, trajectory, build_observations(shot).to(device), schedule)
    with torch.no_grad():
        views = mid_exposure_views(trajectory, len(shot.images))
    panorama.backproject(
        fit.level.images,
        views.downscale(downscale),
        lucky_imaging_weights(fit.level.images, fit.level.weights),
    )
    if feasibility.mode == "per_frame" and isinstance(trajectory, SplineTrajectory):
        search_exposure_motion(fit, trajectory)
    return fit


def _trajectory(
    shot: Shot, config: SplatConfig, *, depth: float = 1.0
) -> SplineTrajectory | BezierTrajectory:
    path = shot.camera.path
    if config.trajectory == "bezier":
        return BezierTrajectory(path, shot.size, depth=depth)
    return SplineTrajectory(
        path, shot.size, shutter=shot.shutter.fraction, depth=depth, readout=config.readout
    )


def build_observations(shot: Shot) -> Observations:
    """The frames, weighted by the static and unsaturated pixels."""
    return Observations(
        images=shot.images, weights=shot.camera.static * unsaturated_mask(shot.images), restored=shot.restored
    )


def mid_exposure_views(trajectory: CameraTrajectory, count: int) -> Views:
    """Cameras at the middle of each of `count` exposures."""
    return Views.cat([trajectory.at(k, torch.zeros(1)) for k in range(count)])


@torch.no_grad()
def render_frame(
    fit: Fit, shot: Shot, frame: int, fallback: Tensor, *, config: CompositeConfig | None = None
) -> tuple[Tensor, Tensor]:
    """Blend the rendering of a frame over the fallback: [3, H, W] linear RGB, and the weight [H, W].

    Args:
        fit: A finished fit.
        shot: Its registered frames.
        frame: Index in `shot`.
        fallback: Result of the video pipeline. [3, H, W] linear RGB.
        config: Parameters of the blend weight; None for the defaults.
    """
    config = config or CompositeConfig()
    rendering = SceneRendering(
        sharp=fit.render_sharp(frame).cpu(),
        reblurred=fit.reblur(frame).cpu(),
        blur_length=fit.trajectory.blur_length(frame),
    )
    views = count_views(shot.camera.path, shot.size, frame)
    static = shot.camera.static[frame] * (views >= config.min_views)
    return composite(shot.images[frame], fallback, rendering, static, config=config)


def run(fit: Fit, on_progress: OnProgress, *, save_checkpoint: Callable[[Fit], None] | None = None) -> None:
    """Optimise until the schedule ends.

    Raises:
        NoScene: The fit diverged, or memory is exhausted.
    """
    try:
        fit.run(on_progress, save_checkpoint)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise NoScene(
            "the scene does not fit into memory; select a shorter part (--start, --end) or use smaller frames"
        ) from error


def _schedule(shot: Shot, feasibility: Feasibility, config: SplatConfig) -> Schedule:
    # If all frames are blurred alike, a blurred scene with a shutter fraction of 0 explains them as well.
    shutter_known = not feasibility.shutter_observable or shot.shutter.confidence >= MIN_SHUTTER_CONFIDENCE
    schedule = build_schedule(
        shot.size,
        steps=config.steps or (PANORAMA_STEPS if shot.points is None else GAUSSIAN_STEPS),
        shared=feasibility.mode == "shared",
        shutter_known=shutter_known,
    )
    return replace(
        schedule,
        budget=60 * config.budget,
        temporal_tv=BEZIER_TEMPORAL_TV if config.trajectory == "bezier" else 0.0,
        prior_weight=config.prior_weight if shot.restored is not None else 0.0,
    )
