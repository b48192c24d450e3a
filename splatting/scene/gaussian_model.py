"""A scene with depth: Gaussians as trainable parameters, and their initialisation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from freezeframe.data.color import SRGB, to_encoded, to_linear
from freezeframe.splatting.camera.trajectory import Views

from .adaptive_density import (
    AdaptiveDensityControl,
    DensifyResult,
    Grad2dStats,
    densify,
    replace_params,
)
from .gaussians import FIELDS, Gaussians, flat_colours, render_gaussians
from .mcmc import MCMCStrategy, inject_noise, relocate_and_add

Strategy = MCMCStrategy | AdaptiveDensityControl


@dataclass(frozen=True, slots=True, kw_only=True)
class GaussianModelConfig:
    """Densification interval and regularisation of Gaussians."""

    densify_every: int = 50  # steps
    densify_start: float = 0.1  # progress
    densify_stop: float = 0.75  # progress
    opacity_reg: float = 0.01  # weight of the mean opacity (3DGS-MCMC): unneeded Gaussians vanish
    scale_reg: float = 0.01  # weight of the mean scale in pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class InitConfig:
    """Initialisation of Gaussians from known points."""

    degree: int = 0  # of the spherical harmonics
    scale: float = 0.6  # standard deviation over the distance between neighbours
    neighbours: int = 3  # projected points that determine the depth of a pixel
    margin: float = 1.25  # side of the sampled rectangle over side of the frame
    seed: int = 0


class GaussianModel(nn.Module):
    """Gaussians as trainable parameters, with densification.

    Args:
        initial: Initial Gaussians.
        pixel: Size of a pixel at the median depth, in scene units.
        strategy: Densification strategy; None keeps the number of Gaussians.
        config: Densification interval and regularisation.
    """

    def __init__(
        self,
        initial: Gaussians,
        *,
        pixel: float,
        strategy: Strategy | None = None,
        config: GaussianModelConfig = GaussianModelConfig(),
    ) -> None:
        super().__init__()
        self.pixel, self.strategy, self.config = pixel, strategy, config
        self.grad2d_stats = Grad2dStats.zeros(len(initial))
        self.generator = torch.Generator().manual_seed(0)
        self.values = nn.ParameterDict({name: nn.Parameter(v.clone()) for name, v in initial.parts().items()})
        self.pending_infos: list[dict[str, Any]] = []  # `info` of the renderings since the last step

    @property
    def gaussians(self) -> Gaussians:
        """The parameters, not copied."""
        return Gaussians(**{name: self.values[name] for name in FIELDS})

    def forward(self, views: Views, size: Sequence[int]) -> Tensor:
        """[M, 3, H, W] linear RGB of M views, on black."""
        encoded, _, info = render_gaussians(
            self.gaussians, views.viewmats, views.Ks.detach(), (size[0], size[1])
        )
        if isinstance(self.strategy, AdaptiveDensityControl) and info["means2d"].requires_grad:
            info["means2d"].retain_grad()
            self.pending_infos.append(info)
        # Decoded before sub-frames are averaged; values above white are not clipped.
        linear: Tensor = to_linear(encoded, SRGB)
        return linear

    def param_groups(self) -> list[dict[str, Any]]:
        """Parameter groups; the learning rate of the means is in pixels."""
        learning_rates = {
            "means": 0.1 * self.pixel,
            "scales": 7e-3,
            "quats": 3e-3,
            "opacities": 4e-2,
            "colours": 2e-2,
        }
        return [
            {"params": [self.values[name]], "lr": lr, "part": name} for name, lr in learning_rates.items()
        ]

    def prior(self) -> Tensor:
        mean_scale_px = (self.values["scales"].exp() / self.pixel).mean()
        total: Tensor = 1e-3 * (
            self.config.opacity_reg * self.values["opacities"].sigmoid().mean()
            + self.config.scale_reg * mean_scale_px
        )
        return total

    def resize(self, factor: float) -> GaussianModel:
        """Itself: Gaussians have no resolution."""
        del factor
        return self

    def step_post_backward(self, optimizer: torch.optim.Optimizer, *, step: int, progress: float) -> None:
        """After a step: add noise (MCMC), accumulate 2D gradients, densify at intervals."""
        if isinstance(self.strategy, MCMCStrategy):
            self._inject_noise(self.strategy, optimizer)
        pending_infos, self.pending_infos = self.pending_infos, []
        for info in pending_infos:
            images = len(info["means2d"]) * len(pending_infos)
            self.grad2d_stats = self.grad2d_stats.accumulate(info, images=images)
        is_due = (
            step % self.config.densify_every == 0
            and self.config.densify_start <= progress < self.config.densify_stop
        )
        if self.strategy is not None and is_due:
            result = self._densify(self.strategy, progress=progress)
            replace_params(self.values, optimizer, result)
            self.grad2d_stats = Grad2dStats.zeros(len(result.scene))

    @torch.no_grad()
    def _inject_noise(self, strategy: MCMCStrategy, optimizer: torch.optim.Optimizer) -> None:
        lr = next(group["lr"] for group in optimizer.param_groups if group.get("part") == "means")
        means = inject_noise(self.gaussians, strategy, lr=lr, pixel=self.pixel, generator=self.generator)
        self.values["means"].copy_(means)

    @torch.no_grad()
    def _densify(self, strategy: Strategy, *, progress: float) -> DensifyResult:
        if isinstance(strategy, MCMCStrategy):
            return relocate_and_add(self.gaussians, strategy, generator=self.generator)
        return densify(
            self.gaussians, self.grad2d_stats, strategy, progress=progress, generator=self.generator
        )

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load a state with any number of Gaussians."""
        for name in FIELDS:
            self.values[name] = nn.Parameter(torch.empty_like(state[f"values.{name}"]))
        return super().load_state_dict(state, strict, assign)


def init_gaussians(
    points: Tensor, views: Views, frames: Tensor, *, count: int, config: InitConfig = InitConfig()
) -> Gaussians:
    """Gaussians at random pixels of all frames, also beyond their borders. Takes no gradient.

    The depth of a pixel is interpolated from the nearest projected points, its colour is that of the frame.

    Args:
        points: [P, 3] in world coordinates.
        views: Cameras of the frames.
        frames: [T, 3, H, W] linear RGB.
        count: Number of Gaussians.
        config: Scale and margin.
    """
    generator = torch.Generator().manual_seed(config.seed)
    height, width = frames.shape[2:]
    count_per_frame = count // len(frames) + 1
    means, colours = [], []
    for view, K, frame in zip(views.viewmats, views.Ks, frames, strict=True):
        positions = (torch.rand(count_per_frame, 2, generator=generator) - 0.5) * config.margin + 0.5
        pixel = positions * torch.tensor([width - 1.0, height - 1.0])
        depth = _interpolate_depth(pixel, points, view, K, neighbours=config.neighbours)
        ray = torch.cat([(pixel - K[:2, 2]) / K[[0, 1], [0, 1]], torch.ones(count_per_frame, 1)], dim=1)
        means.append((ray * depth[:, None] - view[:3, 3]) @ view[:3, :3])
        x, y = pixel[:, 0].round().clamp(0, width - 1).long(), pixel[:, 1].round().clamp(0, height - 1).long()
        colours.append(to_encoded(frame[:, y, x].T.clamp(0, 1), SRGB))
    selected = torch.randperm(count_per_frame * len(frames), generator=generator)[:count]
    selected_means = torch.cat(means)[selected]
    # One layer of Gaussians over the union of the frames.
    depth = (selected_means @ views.viewmats[0, :3, :3].T + views.viewmats[0, :3, 3])[:, 2].abs()
    spacing_px = math.sqrt(height * width * config.margin**2 / count)
    scale = config.scale * depth * spacing_px / float(views.Ks[0, 0, 0])
    return Gaussians(
        means=selected_means,
        quats=torch.randn(count, 4, generator=generator),
        scales=scale.log()[:, None].repeat(1, 3),
        opacities=torch.zeros(count),
        colours=flat_colours(torch.cat(colours)[selected], degree=config.degree),
    )


def pixel_footprint(points: Tensor, views: Views) -> float:
    """Size of a pixel at the median depth of points [P, 3], in scene units."""
    depths = [(points @ view[:3, :3].T + view[:3, 3])[:, 2] for view in views.viewmats]
    median_depth = torch.cat([depth[depth > 0] for depth in depths]).median()
    return float(median_depth / views.Ks[:, 0, 0].mean())


def _interpolate_depth(pixel: Tensor, points: Tensor, view: Tensor, K: Tensor, *, neighbours: int) -> Tensor:
    """[N] depths at pixels [N, 2]: inverse depths of the nearest projected points, weighted by distance."""
    x, y, z = (points @ view[:3, :3].T + view[:3, 3]).unbind(1)
    in_front = z > 0
    projected = torch.stack([x, y], dim=1)[in_front] / z[in_front, None] * K[[0, 1], [0, 1]] + K[:2, 2]
    nearest = torch.cdist(pixel, projected).topk(min(neighbours, len(projected)), largest=False)
    inverse_distance = 1 / (nearest.values + 1)
    inverse_depth = (inverse_distance / z[in_front][nearest.indices]).sum(1) / inverse_distance.sum(1)
    return 1 / inverse_depth
