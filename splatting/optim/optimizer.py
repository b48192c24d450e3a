"""A scene and the camera's way through it, fitted to blurred footage by blurring the scene anew."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from freezeframe.data.blur.operator import row_shares
from freezeframe.data.errors import NoScene
from freezeframe.splatting.camera.trajectory import Track, Views

from .losses import photometric, psnr_of_reblur
from .observations import Footage, Shade
from .schedule import Plan, Stage

SPACING = 1.5  # pixels that the picture moves between two moments
FEWEST, MOST = 3, 21  # moments of an exposure


class Scene(Protocol):
    """What is looked at."""

    def __call__(self, views: Views, size: Sequence[int], /) -> Tensor:
        """[M, 3, H, W] linear light."""
        ...

    def groups(self) -> list[dict[str, Any]]:
        """What may change, with its learning rate, as an optimiser takes it."""
        ...

    def prior(self) -> Tensor:
        """What is held against this scene before anything is seen."""
        ...

    def resized(self, factor: float, /) -> Scene:
        """The scene for pictures with `factor` times as many pixels on a side."""
        ...

    def tend(self, optimiser: torch.optim.Optimizer, *, step: int, progress: float) -> None:
        """What has to be done after a step."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any], /) -> object: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """How a fit is going."""

    progress: float  # [0, 1]
    loss: float
    psnr: float  # of the re-blurred frames of the last step, dB


class Fit:
    """A fit on its way.

    Args:
        scene: What is looked at, made for frames `plan.stages[0].shrink` times smaller.
        track: Where the camera was.
        footage: What was recorded.
        plan: How it is worked through.
    """

    def __init__(self, scene: Scene, track: Track, footage: Footage, plan: Plan) -> None:
        self.scene, self.track, self.footage, self.plan = scene, track, footage, plan
        self.shade = Shade(len(footage)).to(footage.images.device)
        self.step, self.seconds = 0, 0.0
        self.random = torch.Generator().manual_seed(0)
        self._enter(plan.stages[0])

    @property
    def progress(self) -> float:
        """[0, 1]: by steps or by time, whichever is further."""
        return min(1.0, max(self.step / self.plan.steps, self.seconds / self.plan.budget))

    def run(self, tell: Callable[[Told], None], keep: Callable[[Fit], None] | None = None) -> None:
        """Work until the plan is done; `keep` is called now and then, and must be quick.

        Raises:
            NoScene: The loss is not a number.
        """
        while self.progress < 1:
            begun = time.monotonic()
            if (stage := self.plan.stage_at(self.progress)) is not self.stage:
                self.scene = self.scene.resized(self.stage.shrink / stage.shrink)
                self._enter(stage)
            tell(self.advance())
            self.seconds += time.monotonic() - begun
            if keep is not None:
                keep(self)

    def advance(self) -> Told:
        """One step, on a few frames."""
        for group in self.optimiser.param_groups:
            group["lr"] = group["start"] * self.plan.slowed(self.progress)
        frames = torch.randperm(len(self.footage), generator=self.random)[: self.plan.frames].tolist()
        exposures = [self.exposure(frame, jitter=True) for frame in frames]
        answers = torch.stack([answer for answer, _ in exposures])
        unrest = torch.stack([found for _, found in exposures]).mean()
        seen, weights = self.small.images[frames], self.small.weights[frames]
        loss = photometric(answers, seen, weights) + self._held_against(frames)
        loss = loss + self.plan.calm_at(self.progress) * unrest
        if not bool(loss.isfinite()):
            raise NoScene(
                f"the fit of the scene fell apart at step {self.step}; give it steadier footage or poses"
            )
        self.optimiser.zero_grad()
        torch.autograd.backward(loss)
        self.optimiser.step()
        self.step += 1
        if "scene" in self.stage.free:
            self.scene.tend(self.optimiser, step=self.step, progress=self.progress)
        with torch.no_grad():
            return Told(
                progress=self.progress, loss=float(loss.detach()), psnr=psnr_of_reblur(answers, seen, weights)
            )

    def reblurred(self, frame: int, *, jitter: bool = False) -> Tensor:
        """[3, h, w] linear light that the exposure of frame number `frame` would have recorded."""
        return self.exposure(frame, jitter=jitter)[0]

    def exposure(self, frame: int, *, jitter: bool) -> tuple[Tensor, Tensor]:
        """What a frame would have recorded, and the mean change from one of its moments to the next."""
        if not self.stage.blurred:
            return self.sharp(frame), self.small.images.new_zeros(())
        moments = self.track.moments(frame, self.count(frame))
        if jitter:
            moments = moments + (float(torch.rand(1, generator=self.random)) - 0.5) / len(moments)
        views = shrunk(self.track.at(frame, moments), self.stage.shrink)
        light = self.scene(views, self.small.size)
        return self._shaded(self._gathered(light, moments), frame), light.diff(dim=0).abs().mean()

    def sharp(self, frame: int, moment: float = 0.0) -> Tensor:
        """[3, h, w] linear light at one moment of the exposure of frame number `frame`, -1/2 to 1/2."""
        views = shrunk(self.track.at(frame, torch.tensor([moment])), self.stage.shrink)
        return self._shaded(self.scene(views, self.small.size)[0], frame)

    def count(self, frame: int) -> int:
        """How many moments the exposure of a frame needs."""
        reach = self.track.length(frame) / self.stage.shrink
        return min(MOST, max(FEWEST, round(reach / SPACING + 0.5)))

    def state(self) -> dict[str, Any]:
        """Everything that another `Fit` of the same footage and plan needs to go on from here."""
        return {
            "scene": self.scene.state_dict(),
            "track": self.track.state_dict(),
            "shade": self.shade.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "random": self.random.get_state(),
            "stage": self.plan.stages.index(self.stage),
            "step": self.step,
            "seconds": self.seconds,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where the fit stood that gave this `state`."""
        self.step, self.seconds = state["step"], state["seconds"]
        stage = self.plan.stages[state["stage"]]
        self.scene = self.scene.resized(self.stage.shrink / stage.shrink)
        self.scene.load_state_dict(state["scene"])
        self.track.load_state_dict(state["track"])
        self.shade.load_state_dict(state["shade"])
        self._enter(stage)
        self.optimiser.load_state_dict(state["optimiser"])
        self.random.set_state(state["random"])

    def _gathered(self, moments_light: Tensor, moments: Tensor) -> Tensor:
        if not self.track.readout:
            return moments_light.mean(0)
        shares = row_shares(
            moments.detach(),
            moments_light.shape[2],
            shutter=float(self.track.shutter.detach()),
            readout=self.track.readout,
        )
        return (moments_light * shares[:, None, :, None]).sum(0)

    def _shaded(self, light: Tensor, frame: int) -> Tensor:
        shaded: Tensor = self.shade(light, frame)
        return shaded

    def _held_against(self, frames: Sequence[int]) -> Tensor:
        held = self.scene.prior() + self.plan.sway * self.track.restlessness() + self.shade.prior()
        weight = self.plan.trust_at(self.progress)
        if self.small.restored is None or not weight:
            return held
        for frame in frames:
            part = slice(frame, frame + 1)
            held = held + weight / len(frames) * photometric(
                self.sharp(frame)[None], self.small.restored[part], self.small.weights[part]
            )
        return held

    def _enter(self, stage: Stage) -> None:
        """Begin a stage: its own size, its own free parameters."""
        self.stage, self.small = stage, self.footage.reduced(stage.shrink)
        groups = (
            [{"name": "scene", **group} for group in self.scene.groups()] if "scene" in stage.free else []
        )
        groups += [
            {"name": name, "params": [value], "lr": self.plan.rates[name]}
            for name, value in (*self.track.named_parameters(), *self.shade.named_parameters())
            if name in stage.free
        ]
        self.optimiser = torch.optim.Adam([{**group, "start": group["lr"]} for group in groups], eps=1e-12)


def shrunk(views: Views, shrink: int) -> Views:
    """The same views by cameras with `shrink` times larger pixels."""
    if shrink == 1:
        return views
    lenses = views.lenses.clone()
    lenses[:, :2] = lenses[:, :2] / shrink
    lenses[:, :2, 2] = lenses[:, :2, 2] - (shrink - 1) / (2 * shrink)
    return replace(views, lenses=lenses)
