"""The static scene of one shot, rebuilt from its own blur: gate, first guess, fit, composite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from freezeframe.data.errors import NoScene, memory_ran_out
from freezeframe.pipeline.config import SplatConfig
from freezeframe.splatting.camera.lie import poses
from freezeframe.splatting.camera.trajectory import BezierTrack, SplineTrack, Track, Views
from freezeframe.splatting.decision.compositing import SEEN, Candidate, composite
from freezeframe.splatting.decision.feasibility import Evidence, Ruling, looks, overlaps, rule
from freezeframe.splatting.optim.initialization import look_for_motion, lucky_weights, sharpness
from freezeframe.splatting.optim.losses import unsaturated
from freezeframe.splatting.optim.observations import Footage
from freezeframe.splatting.optim.optimizer import Fit, Told, shrunk
from freezeframe.splatting.optim.schedule import Plan, plan
from freezeframe.splatting.scene.adaptive_density import Growth
from freezeframe.splatting.scene.gaussian_model import Splats, pixel_at, seeded
from freezeframe.splatting.scene.mcmc import Sampling
from freezeframe.splatting.scene.panorama_model import FINER, Canvas, canvas_for

from .camera_estimation import Sighting
from .camera_poses import Located

STEPS = 800  # of the fit of a turning camera's scene
DEEP_STEPS = 3000  # of a scene with depth
CALM = 1e-3  # weight of changes between the moments of a free curve
CERTAIN = 0.8  # confidence from which a measured shutter fraction is left as it is

Tell = Callable[[Told], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shutter:
    """What is known of the exposure."""

    fraction: float  # exposure time over frame interval
    confidence: float  # [0, 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """What a reconstruction starts from."""

    images: Tensor  # [T, 3, H, W] linear light
    sighting: Sighting
    shutter: Shutter
    restored: Tensor | None = None  # [T, 3, H, W] the other path's pictures
    points: Tensor | None = None  # [P, 3] of a scene with depth

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.images.shape[2], self.images.shape[3]


def judged(shot: Shot) -> Ruling:
    """Whether the shot's scene can be rebuilt from its blur, as far as is known by now.

    What a moving camera's frames share is not known before its cameras are: turns alone do not tell it.
    """
    seen = shot.sighting
    somewhere = seen.path.kind == "parallax" and shot.points is None
    if seen.missing and not somewhere:
        return Ruling(
            mode="refused",
            reason=f"frame {seen.missing[0]} could not be registered with the one before it: too blurred, or"
            " of something else",
        )
    evidence = Evidence(
        static=seen.static.mean((1, 2)),
        overlap=seen.static.new_ones(0) if somewhere else overlaps(seen.path, shot.size, points=shot.points),
        blur=seen.velocity * shot.shutter.fraction,
        sharpness=sharpness(shot.images, seen.static),
        kind=seen.path.kind,
    )
    return rule(evidence)


def deep(shot: Shot, found: Located) -> Shot:
    """What is known of the frames that were placed in a scene with depth."""
    chosen, seen = list(found.numbers), shot.sighting
    sighting = replace(
        seen, path=found.path, static=seen.static[chosen], velocity=seen.velocity[chosen], missing=()
    )
    restored = None if shot.restored is None else shot.restored[chosen]
    return replace(
        shot, images=shot.images[chosen], sighting=sighting, restored=restored, points=found.points
    )


def prepared(shot: Shot, ruling: Ruling, config: SplatConfig, *, place: torch.device | None = None) -> Fit:
    """The fit of a shot's scene, ready to run: on a canvas where the camera only turned, else with depth.

    Args:
        shot: What is known, on the CPU.
        ruling: What the gate allows.
        config: How to work.
        place: Where to work; None for the CPU.
    """
    make = canvas_fit if shot.points is None else splats_fit
    return make(shot, ruling, config, place=place or torch.device("cpu"))


def splats_fit(shot: Shot, ruling: Ruling, config: SplatConfig, *, place: torch.device) -> Fit:
    """The fit of a scene with depth, from known poses and points."""
    if shot.points is None:
        raise ValueError("a scene with depth begins with points")
    path = shot.sighting.path
    views = Views(
        poses=poses(path.rotations, path.translations), lenses=path.intrinsics.expand(len(path.times), 3, 3)
    )
    pixel = pixel_at(shot.points, views)
    depth = pixel * float(path.intrinsics[0, 0])
    track = _track(shot, config, depth=depth)
    start = seeded(shot.points, views, shot.images, count=config.gaussians)
    way = (
        Sampling(cap=config.gaussians)
        if config.densify == "mcmc"
        else Growth(extent=depth, cap=config.gaussians)
    )
    splats = Splats(start, pixel=pixel, way=way).to(place)
    return Fit(splats, track.to(place), footage(shot).to(place), _plan(shot, ruling, config))


def canvas_fit(shot: Shot, ruling: Ruling, config: SplatConfig, *, place: torch.device) -> Fit:
    """The fit of a turning camera's scene, ready to run."""
    track = _track(shot, config)
    work = _plan(shot, ruling, config)
    shrink = work.stages[0].shrink
    density = float(shot.sighting.path.intrinsics[0, 0]) * FINER / shrink
    canvas = canvas_for(track, len(shot.images), shot.size, density=density).to(place)
    track = track.to(place)
    fit = Fit(canvas, track, footage(shot).to(place), work)
    with torch.no_grad():
        views = middles(track, len(shot.images))
    canvas.paint(fit.small.images, shrunk(views, shrink), lucky_weights(fit.small.images, fit.small.weights))
    if ruling.mode == "free" and isinstance(track, SplineTrack):
        look_for_motion(fit, track)
    return fit


def _track(shot: Shot, config: SplatConfig, *, depth: float = 1.0) -> SplineTrack | BezierTrack:
    path = shot.sighting.path
    if config.trajectory == "bezier":
        return BezierTrack(path, shot.size, depth=depth)
    return SplineTrack(path, shot.size, shutter=shot.shutter.fraction, depth=depth, readout=config.readout)


def footage(shot: Shot) -> Footage:
    """What the fit is held against: the scene's own unsaturated pixels."""
    return Footage(
        images=shot.images, weights=shot.sighting.static * unsaturated(shot.images), restored=shot.restored
    )


def middles(track: Track, count: int) -> Views:
    """The camera at the middle of each exposure."""
    views = [track.at(k, torch.zeros(1)) for k in range(count)]
    return Views(
        poses=torch.cat([view.poses for view in views]), lenses=torch.cat([view.lenses for view in views])
    )


@torch.no_grad()
def rebuilt(fit: Fit, shot: Shot, frame: int, other: Tensor) -> tuple[Tensor, Tensor]:
    """A frame with the scene in it where that may be believed: [3, H, W] and the scene's share [H, W].

    Args:
        fit: Done.
        shot: What it was fitted to.
        frame: Number in the shot.
        other: What the rest of the pipeline makes of the frame. [3, H, W] linear light.
    """
    candidate = Candidate(
        sharp=fit.sharp(frame).cpu(), reblurred=fit.reblurred(frame).cpu(), length=fit.track.length(frame)
    )
    static = shot.sighting.static[frame] * (looks(shot.sighting.path, shot.size, frame) >= SEEN)
    return composite(shot.images[frame], other, candidate, static)


def run(fit: Fit, tell: Tell, *, keep: Callable[[Fit], None] | None = None) -> None:
    """Work until the plan is done; memory that runs out is the user's sentence, not a trace."""
    try:
        fit.run(tell, keep)
    except (RuntimeError, MemoryError) as error:
        if not memory_ran_out(error):
            raise
        raise NoScene(
            "the scene does not fit into memory; take a shorter part (--start, --end) or smaller frames"
        ) from error


def _plan(shot: Shot, ruling: Ruling, config: SplatConfig) -> Plan:
    # Where all are blurred alike only the measured shutter stands against a blurred scene.
    known = not ruling.telling or shot.shutter.confidence >= CERTAIN
    work = plan(
        shot.size,
        steps=config.steps or (STEPS if shot.points is None else DEEP_STEPS),
        budget=60 * config.budget,
        tied=ruling.mode == "tied",
        shutter_known=known,
        trust=config.trust if shot.restored is not None else 0.0,
    )
    return replace(work, calm=CALM) if config.trajectory == "bezier" else work


def is_canvas(fit: Fit) -> bool:
    """Whether the scene is a picture on a sphere, without depth."""
    return isinstance(fit.scene, Canvas)
