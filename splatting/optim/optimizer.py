"""Joint optimisation of scene and camera trajectory, by re-blurring renderings to the recorded frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from freezeframe.data.blur.operator import rolling_shutter_weights
from freezeframe.data.errors import NoScene
from freezeframe.splatting.camera.trajectory import CameraTrajectory, Views

from .losses import photometric, psnr_of_reblur
from .observations import ExposureCompensation, Observations
from .schedule import Phase, Schedule


class SceneModel(Protocol):
    """A scene that renders views and has trainable parameters."""

    def __call__(self, views: Views, size: Sequence[int], /) -> Tensor:
        """[M, 3, H, W] linear RGB of M views."""
        ...

    def param_groups(self) -> list[dict[str, Any]]:
        """Parameter groups with learning rates, for a torch optimiser."""
        ...

    def prior(self) -> Tensor:
        """Regularisation term of the loss."""
        ...

    def resize(self, factor: float, /) -> SceneModel:
        """The scene for frames with `factor` times as many pixels on a side."""
        ...

    def step_post_backward(self, optimizer: torch.optim.Optimizer, *, step: int, progress: float) -> None:
        """Change the structure of the scene after an optimiser step."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any], /) -> object: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FitMetrics:
    """Metrics of one optimiser step."""

    progress: float  # of the whole fit, [0, 1]
    loss: float
    psnr: float  # of the re-blurred frames of this step, dB


@dataclass(frozen=True, slots=True, kw_only=True)
class SubframeConfig:
    """Number of sub-frames that are averaged to an exposure."""

    spacing_px: float = 1.5  # image motion between two sub-frames
    min_count: int = 3
    max_count: int = 21

    def count(self, blur_px: float) -> int:
        """Sub-frames of an exposure with `blur_px` pixels of motion."""
        return min(self.max_count, max(self.min_count, round(blur_px / self.spacing_px + 0.5)))


class Fit:
    """A fit of scene, trajectory and exposure compensation, with its optimiser state.

    Args:
        scene: The scene, for frames `schedule.phases[0].downscale` times smaller.
        trajectory: Camera poses and intrinsics.
        observations: The recorded frames.
        schedule: Phases, learning rates and weights.
        subframes: Number of sub-frames per exposure.
    """

    def __init__(
        self,
        scene: SceneModel,
        trajectory: CameraTrajectory,
        observations: Observations,
        schedule: Schedule,
        *,
        subframes: SubframeConfig = SubframeConfig(),
    ) -> None:
        self.scene, self.trajectory, self.observations = scene, trajectory, observations
        self.schedule, self.subframes = schedule, subframes
        self.exposure_compensation = ExposureCompensation(len(observations)).to(observations.images.device)
        self.step, self.seconds = 0, 0.0
        self.generator = torch.Generator().manual_seed(0)
        self._start_phase(schedule.phases[0])

    @property
    def progress(self) -> float:
        """[0, 1]: the greater of the fractions of steps and of time."""
        return min(1.0, max(self.step / self.schedule.steps, self.seconds / self.schedule.budget))

    def run(
        self, on_progress: Callable[[FitMetrics], None], save_checkpoint: Callable[[Fit], None] | None = None
    ) -> None:
        """Optimise until the schedule ends.

        Args:
            on_progress: Called after each step.
            save_checkpoint: Called after each step; decides itself when to save.

        Raises:
            NoScene: The loss is not finite.
        """
        while self.progress < 1:
            start_time = time.monotonic()
            if (phase := self.schedule.phase_at(self.progress)) is not self.phase:
                self.scene = self.scene.resize(self.phase.downscale / phase.downscale)
                self._start_phase(phase)
            on_progress(self.optimize_step())
            self.seconds += time.monotonic() - start_time
            if save_checkpoint is not None:
                save_checkpoint(self)

    def optimize_step(self) -> FitMetrics:
        """One step on a random batch of frames."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self.schedule.lr_scale_at(self.progress)
        order = torch.randperm(len(self.observations), generator=self.generator)
        frames = order[: self.schedule.batch_size].tolist()
        exposures = [self.render_exposure(frame, jitter=True) for frame in frames]
        rendered = torch.stack([image for image, _ in exposures])
        temporal_change = torch.stack([change for _, change in exposures]).mean()
        observed, weights = self.level.images[frames], self.level.weights[frames]
        loss = photometric(rendered, observed, weights) + self._regularization(frames)
        loss = loss + self.schedule.temporal_tv_at(self.progress) * temporal_change
        if not bool(loss.isfinite()):
            raise NoScene(
                f"the fit of the scene diverged at step {self.step}: its loss is not finite; use footage with"
                " less shake, or camera poses of your own (--poses)"
            )
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.step += 1
        if "scene" in self.phase.trainable:
            self.scene.step_post_backward(self.optimizer, step=self.step, progress=self.progress)
        with torch.no_grad():
            psnr = psnr_of_reblur(rendered, observed, weights)
        return FitMetrics(progress=self.progress, loss=float(loss.detach()), psnr=psnr)

    def reblur(self, frame: int, *, jitter: bool = False) -> Tensor:
        """[3, h, w] linear RGB of a frame's exposure."""
        return self.render_exposure(frame, jitter=jitter)[0]

    def render_exposure(self, frame: int, *, jitter: bool) -> tuple[Tensor, Tensor]:
        """Linear RGB [3, h, w] of a frame's exposure, and the mean absolute change between its sub-frames.

        Args:
            frame: Index of the frame.
            jitter: Shift the sub-frame times by a random part of their spacing.
        """
        if not self.phase.blurred:
            return self.render_sharp(frame), self.level.images.new_zeros(())
        subframe_times = self.trajectory.subframe_times(frame, self.subframe_count(frame))
        if jitter:
            shift = float(torch.rand(1, generator=self.generator)) - 0.5
            subframe_times = subframe_times + shift / len(subframe_times)
        views = self.trajectory.at(frame, subframe_times).downscale(self.phase.downscale)
        linear = self.scene(views, self.level.size)
        exposure = self._compensate(self._integrate(linear, subframe_times), frame)
        return exposure, linear.diff(dim=0).abs().mean()

    def render_sharp(self, frame: int, subframe_time: float = 0.0) -> Tensor:
        """[3, h, w] linear RGB at one sub-frame time, -1/2 to 1/2, of a frame's exposure."""
        views = self.trajectory.at(frame, torch.tensor([subframe_time])).downscale(self.phase.downscale)
        return self._compensate(self.scene(views, self.level.size)[0], frame)

    def subframe_count(self, frame: int) -> int:
        """Sub-frames of a frame's exposure at the present resolution."""
        return self.subframes.count(self.trajectory.blur_length(frame) / self.phase.downscale)

    def state_dict(self) -> dict[str, Any]:
        """State from which a `Fit` of the same observations and schedule continues."""
        return {
            "scene": self.scene.state_dict(),
            "trajectory": self.trajectory.state_dict(),
            "exposure_compensation": self.exposure_compensation.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "phase": self.schedule.phases.index(self.phase),
            "step": self.step,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the state of another `Fit` of the same observations and schedule."""
        self.step, self.seconds = state["step"], state["seconds"]
        phase = self.schedule.phases[state["phase"]]
        self.scene = self.scene.resize(self.phase.downscale / phase.downscale)
        self.scene.load_state_dict(state["scene"])
        self.trajectory.load_state_dict(state["trajectory"])
        self.exposure_compensation.load_state_dict(state["exposure_compensation"])
        self._start_phase(phase)
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])

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
                self.render_sharp(frame)[None], self.level.restored[index], self.level.weights[index]
            )
        return total

    def _start_phase(self, phase: Phase) -> None:
        """Downsample the observations and create an optimiser for the trainable parameters of a phase."""
        self.phase, self.level = phase, self.observations.downsample(phase.downscale)
        groups = [{"name": "scene", **group} for group in self.scene.param_groups()]
        param_groups = groups if "scene" in phase.trainable else []
        param_groups += [
            {"name": name, "params": [value], "lr": self.schedule.learning_rates[name]}
            for name, value in (
                *self.trajectory.named_parameters(),
                *self.exposure_compensation.named_parameters(),
            )
            if name in phase.trainable
        ]
        self.optimizer = torch.optim.Adam(
            [{**group, "initial_lr": group["lr"]} for group in param_groups], eps=1e-12
        )
