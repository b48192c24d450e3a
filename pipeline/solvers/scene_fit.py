"""The static scene of one shot, rebuilt from its own blur: gate, first guess, fit, composite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from freezeframe.data.errors import NoScene, is_out_of_memory
from freezeframe.pipeline.config import SplatConfig
from freezeframe.splatting.camera.lie import compose_se3
from freezeframe.splatting.camera.trajectory import (
    BezierTrajectory,
    CameraTrajectory,
    SplineTrajectory,
    Views,
)
from freezeframe.splatting.decision.compositing import MIN_VIEWS, SceneRendering, composite
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
from freezeframe.splatting.optim.optimizer import Fit, FitProgress, downscale_views
from freezeframe.splatting.optim.schedule import Schedule, build_schedule
from freezeframe.splatting.scene.adaptive_density import AdaptiveDensityControl
from freezeframe.splatting.scene.gaussian_model import GaussianModel, init_gaussians, pixel_footprint
from freezeframe.splatting.scene.mcmc import MCMCStrategy
from freezeframe.splatting.scene.panorama_model import SUPERSAMPLING, PanoramaModel, build_panorama

from .camera_estimation import CameraEstimate
from .camera_poses import CameraPoses

STEPS = 800  # of the fit of a turning camera's scene
STEPS_3D = 3000  # of a scene with depth
TEMPORAL_TV_WEIGHT = 1e-3  # weight of changes between the moments of a free curve
MIN_SHUTTER_CONFIDENCE = 0.8  # confidence from which a measured shutter fraction is left as it is

OnProgress = Callable[[FitProgress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shutter:
    """What is known of the exposure."""

    fraction: float  # exposure time over frame interval
    confidence: float  # [0, 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """What a reconstruction starts from."""

    images: Tensor  # [T, 3, H, W] linear light
    camera: CameraEstimate
    shutter: Shutter
    restored: Tensor | None = None  # [T, 3, H, W] the other path's pictures
    points: Tensor | None = None  # [P, 3] of a scene with depth

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.images.shape[2], self.images.shape[3]


def check_feasibility(shot: Shot) -> Feasibility:
    """Whether the shot's scene can be rebuilt from its blur, as far as is known by now.

    What a moving camera's frames share is not known before its cameras are: turns alone do not tell it.
    """
    camera = shot.camera
    poses_unknown = camera.path.kind == "parallax" and shot.points is None
    if camera.unregistered and not poses_unknown:
        return Feasibility(
            mode="rejected",
            reason=f"frame {camera.unregistered[0]} could not be registered with the one before it: too blurred, or"
            " of something else",
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


def with_depth(shot: Shot, poses: CameraPoses) -> Shot:
    """What is known of the frames that were placed in a scene with depth."""
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
    """The fit of a shot's scene, ready to run: on a canvas where the camera only turned, else with depth.

    Args:
        shot: What is known, on the CPU.
        feasibility: What the gate allows.
        config: How to work.
        device: Where to work; None for the CPU.
    """
    make = build_panorama_fit if shot.points is None else build_gaussian_fit
    return make(shot, feasibility, config, device=device or torch.device("cpu"))


def build_gaussian_fit(
    shot: Shot, feasibility: Feasibility, config: SplatConfig, *, device: torch.device
) -> Fit:
    """The fit of a scene with depth, from known poses and points."""
    if shot.points is None:
        raise ValueError("a scene with depth begins with points")
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
    """The fit of a turning camera's scene, ready to run."""
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
        downscale_views(views, downscale),
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
    """What the fit is held against: the scene's own unsaturated pixels."""
    return Observations(
        images=shot.images, weights=shot.camera.static * unsaturated_mask(shot.images), restored=shot.restored
    )


def mid_exposure_views(trajectory: CameraTrajectory, count: int) -> Views:
    """The camera at the middle of each exposure."""
    views = [trajectory.at(k, torch.zeros(1)) for k in range(count)]
    return Views(
        viewmats=torch.cat([view.viewmats for view in views]), Ks=torch.cat([view.Ks for view in views])
    )


@torch.no_grad()
def render_frame(fit: Fit, shot: Shot, frame: int, fallback: Tensor) -> tuple[Tensor, Tensor]:
    """A frame with the scene in it where that may be believed: [3, H, W] and the scene's share [H, W].

    Args:
        fit: Done.
        shot: What it was fitted to.
        frame: Number in the shot.
        fallback: What the rest of the pipeline makes of the frame. [3, H, W] linear light.
    """
    rendering = SceneRendering(
        sharp=fit.sharp(frame).cpu(),
        reblurred=fit.reblurred(frame).cpu(),
        blur_length=fit.trajectory.blur_length(frame),
    )
    static = shot.camera.static[frame] * (count_views(shot.camera.path, shot.size, frame) >= MIN_VIEWS)
    return composite(shot.images[frame], fallback, rendering, static)


def run(fit: Fit, on_progress: OnProgress, *, save_checkpoint: Callable[[Fit], None] | None = None) -> None:
    """Work until the plan is done; memory that runs out is the user's sentence, not a trace."""
    try:
        fit.run(on_progress, save_checkpoint)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise NoScene(
            "the scene does not fit into memory; take a shorter part (--start, --end) or smaller frames"
        ) from error


def _schedule(shot: Shot, feasibility: Feasibility, config: SplatConfig) -> Schedule:
    # Where all are blurred alike only the measured shutter stands against a blurred scene.
    known = not feasibility.shutter_observable or shot.shutter.confidence >= MIN_SHUTTER_CONFIDENCE
    schedule = build_schedule(
        shot.size,
        steps=config.steps or (STEPS if shot.points is None else STEPS_3D),
        budget=60 * config.budget,
        shared=feasibility.mode == "shared",
        shutter_known=known,
        prior_weight=config.prior_weight if shot.restored is not None else 0.0,
    )
    return replace(schedule, temporal_tv=TEMPORAL_TV_WEIGHT) if config.trajectory == "bezier" else schedule


def is_canvas(fit: Fit) -> bool:
    """Whether the scene is a picture on a sphere, without depth."""
    return isinstance(fit.scene, PanoramaModel)
