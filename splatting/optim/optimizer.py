"""A scene and the camera's way through it, fitted to blurred footage by blurring the scene anew."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from freezeframe.data.blur.operator import rolling_shutter_weights
from freezeframe.data.errors import NoScene
from freezeframe.splatting.camera.trajectory import CameraTrajectory, Views

from .losses import photometric, psnr_of_reblur
from .observations import ExposureCompensation, Observations
from .schedule import Phase, Schedule

SUBFRAME_SPACING_PX = 1.5  # pixels that the picture moves between two moments
MIN_SUBFRAMES, MAX_SUBFRAMES = 3, 21  # moments of an exposure


class SceneModel(Protocol):
    """What is looked at."""

    def __call__(self, views: Views, size: Sequence[int], /) -> Tensor:
        """[M, 3, H, W] linear light."""
        ...

    def param_groups(self) -> list[dict[str, Any]]:
        """What may change, with its learning rate, as an optimiser takes it."""
        ...

    def prior(self) -> Tensor:
        """What is held against this scene before anything is seen."""
        ...

    def resize(self, factor: float, /) -> SceneModel:
        """The scene for pictures with `factor` times as many pixels on a side."""
        ...

    def step_post_backward(self, optimizer: torch.optim.Optimizer, *, step: int, progress: float) -> None:
        """What has to be done after a step."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any], /) -> object: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FitProgress:
    """How a fit is going."""

    progress: float  # [0, 1]
    loss: float
    psnr: float  # of the re-blurred frames of the last step, dB


class Fit:
    """A fit on its way.

    Args:
        scene: What is looked at, made for frames `plan.stages[0].shrink` times smaller.
        trajectory: Where the camera was.
        observations: What was recorded.
        schedule: How it is worked through.
    """

    def __init__(
        self, scene: SceneModel, trajectory: CameraTrajectory, observations: Observations, schedule: Schedule
    ) -> None:
        self.scene, self.trajectory, self.observations, self.schedule = (
            scene,
            trajectory,
            observations,
            schedule,
        )
        self.exposure_compensation = ExposureCompensation(len(observations)).to(observations.images.device)
        self.step, self.seconds = 0, 0.0
        self.random = torch.Generator().manual_seed(0)
        self._begin_phase(schedule.phases[0])

    @property
    def progress(self) -> float:
        """[0, 1]: by steps or by time, whichever is further."""
        return min(1.0, max(self.step / self.schedule.steps, self.seconds / self.schedule.budget))

    def run(
        self, on_progress: Callable[[FitProgress], None], save_checkpoint: Callable[[Fit], None] | None = None
    ) -> None:
        """Work until the plan is done; `save_checkpoint` is called now and then, and must be quick.

        Raises:
            NoScene: The loss is not a number.
        """
        while self.progress < 1:
            start_time = time.monotonic()
            if (phase := self.schedule.phase_at(self.progress)) is not self.phase:
                self.scene = self.scene.resize(self.phase.downscale / phase.downscale)
                self._begin_phase(phase)
            on_progress(self.optimize_step())
            self.seconds += time.monotonic() - start_time
            if save_checkpoint is not None:
                save_checkpoint(self)

    def optimize_step(self) -> FitProgress:
        """One step, on a few frames."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["start"] * self.schedule.lr_scale_at(self.progress)
        frames = torch.randperm(len(self.observations), generator=self.random)[
            : self.schedule.frames
        ].tolist()
        exposures = [self.render_exposure(frame, jitter=True) for frame in frames]
        rendered = torch.stack([image for image, _ in exposures])
        temporal_change = torch.stack([change for _, change in exposures]).mean()
        observed, weights = self.level.images[frames], self.level.weights[frames]
        loss = photometric(rendered, observed, weights) + self._regularization(frames)
        loss = loss + self.schedule.temporal_tv_at(self.progress) * temporal_change
        if not bool(loss.isfinite()):
            raise NoScene(
                f"the fit of the scene fell apart at step {self.step}; give it steadier footage or poses"
            )
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.step += 1
        if "scene" in self.phase.trainable:
            self.scene.step_post_backward(self.optimizer, step=self.step, progress=self.progress)
        with torch.no_grad():
            return FitProgress(
                progress=self.progress,
                loss=float(loss.detach()),
                psnr=psnr_of_reblur(rendered, observed, weights),
            )

    def reblurred(self, frame: int, *, jitter: bool = False) -> Tensor:
        """[3, h, w] linear light that the exposure of frame number `frame` would have recorded."""
        return self.render_exposure(frame, jitter=jitter)[0]

    def render_exposure(self, frame: int, *, jitter: bool) -> tuple[Tensor, Tensor]:
        """What a frame would have recorded, and the mean change from one of its moments to the next."""
        if not self.phase.blurred:
            return self.sharp(frame), self.level.images.new_zeros(())
        subframe_times = self.trajectory.subframe_times(frame, self.subframe_count(frame))
        if jitter:
            subframe_times = subframe_times + (float(torch.rand(1, generator=self.random)) - 0.5) / len(
                subframe_times
            )
        views = downscale_views(self.trajectory.at(frame, subframe_times), self.phase.downscale)
        linear = self.scene(views, self.level.size)
        return self._compensate(self._integrate(linear, subframe_times), frame), linear.diff(
            dim=0
        ).abs().mean()

    def sharp(self, frame: int, subframe_time: float = 0.0) -> Tensor:
        """[3, h, w] linear light at one moment of the exposure of frame number `frame`, -1/2 to 1/2."""
        views = downscale_views(
            self.trajectory.at(frame, torch.tensor([subframe_time])), self.phase.downscale
        )
        return self._compensate(self.scene(views, self.level.size)[0], frame)

    def subframe_count(self, frame: int) -> int:
        """How many moments the exposure of a frame needs."""
        blur_px = self.trajectory.blur_length(frame) / self.phase.downscale
        return min(MAX_SUBFRAMES, max(MIN_SUBFRAMES, round(blur_px / SUBFRAME_SPACING_PX + 0.5)))

    def state(self) -> dict[str, Any]:
        """Everything that another `Fit` of the same footage and plan needs to go on from here."""
        return {
            "scene": self.scene.state_dict(),
            "trajectory": self.trajectory.state_dict(),
            "exposure_compensation": self.exposure_compensation.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": self.random.get_state(),
            "phase": self.schedule.phases.index(self.phase),
            "step": self.step,
            "seconds": self.seconds,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where the fit stood that gave this `state`."""
        self.step, self.seconds = state["step"], state["seconds"]
        phase = self.schedule.phases[state["phase"]]
        self.scene = self.scene.resize(self.phase.downscale / phase.downscale)
        self.scene.load_state_dict(state["scene"])
        self.trajectory.load_state_dict(state["trajectory"])
        self.exposure_compensation.load_state_dict(state["exposure_compensation"])
        self._begin_phase(phase)
        self.optimizer.load_state_dict(state["optimizer"])
        self.random.set_state(state["random"])

    def _integrate(self, subframes: Tensor, subframe_times: Tensor) -> Tensor:
        if not self.trajectory.readout:
            return subframes.mean(0)
        row_weights = rolling_shutter_weights(
            subframe_times.detach(),
            subframes.shape[2],
            shutter=float(self.trajectory.shutter.detach()),
            readout=self.trajectory.readout,
        )
        return (subframes * row_weights[:, None, :, None]).sum(0)

    def _compensate(self, linear: Tensor, frame: int) -> Tensor:
        compensated: Tensor = self.exposure_compensation(linear, frame)
        return compensated

    def _regularization(self, frames: Sequence[int]) -> Tensor:
        total = (
            self.scene.prior()
            + self.schedule.offset_weight * self.trajectory.regularization()
            + self.exposure_compensation.prior()
        )
        weight = self.schedule.prior_weight_at(self.progress)
        if self.level.restored is None or not weight:
            return total
        for frame in frames:
            index = slice(frame, frame + 1)
            total = total + weight / len(frames) * photometric(
                self.sharp(frame)[None], self.level.restored[index], self.level.weights[index]
            )
        return total

    def _begin_phase(self, phase: Phase) -> None:
        """Begin a stage: its own size, its own free parameters."""
        self.phase, self.level = phase, self.observations.downsample(phase.downscale)
        param_groups = (
            [{"name": "scene", **group} for group in self.scene.param_groups()]
            if "scene" in phase.trainable
            else []
        )
        param_groups += [
            {"name": name, "params": [value], "lr": self.schedule.learning_rates[name]}
            for name, value in (
                *self.trajectory.named_parameters(),
                *self.exposure_compensation.named_parameters(),
            )
            if name in phase.trainable
        ]
        self.optimizer = torch.optim.Adam(
            [{**group, "start": group["lr"]} for group in param_groups], eps=1e-12
        )


def downscale_views(views: Views, downscale: int) -> Views:
    """The same views by cameras with `downscale` times larger pixels."""
    if downscale == 1:
        return views
    Ks = views.Ks.clone()
    Ks[:, :2] = Ks[:, :2] / downscale
    Ks[:, :2, 2] = Ks[:, :2, 2] - (downscale - 1) / (2 * downscale)
    return replace(views, Ks=Ks)
