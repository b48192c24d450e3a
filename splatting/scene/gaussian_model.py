"""A scene with depth: Gaussians as a fit moves them, and where they begin."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from freezeframe.data.color import SRGB, to_encoded, to_linear
from freezeframe.splatting.camera.trajectory import Views

from .adaptive_density import AdaptiveDensityControl, Grad2dStats, densify, replace_params
from .gaussians import FIELDS, Gaussians, flat_colours, render_gaussians
from .mcmc import MCMCStrategy, inject_noise, relocate_and_add

DENSIFY_EVERY = 50  # steps between births
DENSIFY_RANGE = (0.1, 0.75)  # progress between which Gaussians are born
INIT_SCALE = 0.6  # standard deviation of a Gaussian over the distance to its neighbours
OPACITY_REG, SCALE_REG = (
    0.01,
    0.01,
)  # weights of opacity and of size: what is not needed shrinks away (3DGS-MCMC)
NEIGHBOURS = 3  # points whose depths speak for a pixel
INIT_MARGIN = 1.25  # of the frame: Gaussians begin this far beyond its borders too


class GaussianModel(nn.Module):
    """Gaussians that an optimiser may move, and that become more where they are needed.

    Args:
        start: Where they begin.
        pixel: What one pixel of the frames spans at the scene's usual distance, in the scene's unit.
        strategy: How they become more, by chance or where the pictures pull; None keeps their number.
    """

    def __init__(
        self, start: Gaussians, *, pixel: float, strategy: MCMCStrategy | AdaptiveDensityControl | None = None
    ) -> None:
        super().__init__()
        self.pixel, self.strategy = pixel, strategy
        self.grad2d_stats = Grad2dStats.none(len(start))
        self.random = torch.Generator().manual_seed(0)
        self.values = nn.ParameterDict({name: nn.Parameter(v.clone()) for name, v in start.parts().items()})
        self.pending_infos: list[dict[str, Any]] = []  # what the pictures of a step told of the Gaussians

    @property
    def gaussians(self) -> Gaussians:
        """The parameters themselves."""
        return Gaussians(**{name: self.values[name] for name in FIELDS})

    def forward(self, views: Views, size: Sequence[int]) -> Tensor:
        """[M, 3, H, W] linear light that M views see, on black."""
        encoded, _, info = render_gaussians(
            self.gaussians, views.viewmats, views.Ks.detach(), (size[0], size[1])
        )
        if isinstance(self.strategy, AdaptiveDensityControl) and info["means2d"].requires_grad:
            info["means2d"].retain_grad()
            self.pending_infos.append(info)
        # Before light is averaged, never after; codes above white stay above.
        linear: Tensor = to_linear(encoded, SRGB)
        return linear

    def param_groups(self) -> list[dict[str, Any]]:
        """What may change, as an optimiser takes it; means by pixels."""
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
            OPACITY_REG * self.values["opacities"].sigmoid().mean() + SCALE_REG * mean_scale_px
        )
        return total

    def resize(self, factor: float) -> GaussianModel:
        """Themselves: Gaussians have no pixels."""
        del factor
        return self

    def step_post_backward(self, optimizer: torch.optim.Optimizer, *, step: int, progress: float) -> None:
        """After a step: shake, and now and then let Gaussians be born and die."""
        if isinstance(self.strategy, MCMCStrategy):
            lr = next(group["lr"] for group in optimizer.param_groups if group.get("part") == "means")
            with torch.no_grad():
                self.values["means"].copy_(
                    inject_noise(
                        self.gaussians, lr=lr, pixel=self.pixel, noise=self.strategy.noise, random=self.random
                    )
                )
        pending_infos, self.pending_infos = self.pending_infos, []
        for info in pending_infos:
            self.grad2d_stats = self.grad2d_stats.after(
                info, pictures=len(info["means2d"]) * len(pending_infos)
            )
        if (
            self.strategy is None
            or step % DENSIFY_EVERY
            or not DENSIFY_RANGE[0] <= progress < DENSIFY_RANGE[1]
        ):
            return
        with torch.no_grad():
            scene = self.gaussians
            if isinstance(self.strategy, MCMCStrategy):
                result = relocate_and_add(scene, self.strategy, random=self.random)
            else:
                result = densify(
                    scene, self.grad2d_stats, self.strategy, progress=progress, random=self.random
                )
        replace_params(self.values, optimizer, result)
        self.grad2d_stats = Grad2dStats.none(len(result.scene))

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As any module's, and of any number of Gaussians."""
        for name in FIELDS:
            self.values[name] = nn.Parameter(torch.empty_like(state[f"values.{name}"]))
        return super().load_state_dict(state, strict, assign)


def init_gaussians(  # noqa: PLR0913
    points: Tensor, views: Views, frames: Tensor, *, count: int, degree: int = 0, seed: int = 0
) -> Gaussians:
    """Gaussians in front of every camera, at the depths of known points. Takes no gradient.

    As many as are asked for lie under random pixels of random frames, also a little beyond the borders; the
    points that a frame sees nearest to such a pixel tell its depth, the frame its colour.

    Args:
        points: [P, 3].
        views: Of the frames.
        frames: [T, 3, H, W] linear light.
        count: Gaussians.
        degree: Of their harmonics.
        seed: Of the choice.
    """
    random = torch.Generator().manual_seed(seed)
    height, width = frames.shape[2:]
    count_per_frame = count // len(frames) + 1
    means, colours = [], []
    for view, K, frame in zip(views.viewmats, views.Ks, frames, strict=True):
        places = (torch.rand(count_per_frame, 2, generator=random) - 0.5) * INIT_MARGIN + 0.5
        pixel = places * torch.tensor([width - 1.0, height - 1.0])
        depth = _depth_at(pixel, points, view, K)
        ray = torch.cat([(pixel - K[:2, 2]) / K[[0, 1], [0, 1]], torch.ones(count_per_frame, 1)], dim=1)
        means.append((ray * depth[:, None] - view[:3, 3]) @ view[:3, :3])
        x, y = pixel[:, 0].round().clamp(0, width - 1).long(), pixel[:, 1].round().clamp(0, height - 1).long()
        colours.append(to_encoded(frame[:, y, x].T.clamp(0, 1), SRGB))
    chosen = torch.randperm(count_per_frame * len(frames), generator=random)[:count]
    means_chosen = torch.cat(means)[chosen]
    # One layer of Gaussians over what all frames see together.
    depth = (means_chosen @ views.viewmats[0, :3, :3].T + views.viewmats[0, :3, 3])[:, 2].abs()
    scale = INIT_SCALE * depth * math.sqrt(height * width * INIT_MARGIN**2 / count) / float(views.Ks[0, 0, 0])
    return Gaussians(
        means=means_chosen,
        quats=torch.randn(count, 4, generator=random),
        scales=scale.log()[:, None].repeat(1, 3),
        opacities=torch.zeros(count),
        colours=flat_colours(torch.cat(colours)[chosen], degree=degree),
    )


def pixel_footprint(points: Tensor, views: Views) -> float:
    """What one pixel spans at the usual distance of [P, 3] points."""
    depths = [(points @ view[:3, :3].T + view[:3, 3])[:, 2] for view in views.viewmats]
    median_depth = torch.cat([depth[depth > 0] for depth in depths]).median()
    return float(median_depth / views.Ks[:, 0, 0].mean())


def _depth_at(pixel: Tensor, points: Tensor, view: Tensor, K: Tensor) -> Tensor:
    """[N] depths at pixels [N, 2]: of one of the points nearest to each in the picture, taken at random."""
    x, y, z = (points @ view[:3, :3].T + view[:3, 3]).unbind(1)
    in_front = z > 0
    projected = torch.stack([x, y], dim=1)[in_front] / z[in_front, None] * K[[0, 1], [0, 1]] + K[:2, 2]
    nearest = torch.cdist(pixel, projected).topk(min(NEIGHBOURS, len(projected)), largest=False)
    inverse_distance = 1 / (nearest.values + 1)
    inverse = (inverse_distance / z[in_front][nearest.indices]).sum(1) / inverse_distance.sum(1)
    return 1 / inverse
