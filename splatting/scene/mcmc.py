"""Densification by Markov chain Monte Carlo: relocation and noise (3DGS-MCMC, arXiv:2404.09591).

Gaussians of low opacity are relocated onto others and noise is added to the means, so that no gradient
threshold is needed. From a poor initialisation this finds more than `adaptive_density.py`.

Nothing here takes a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from freezeframe.splatting.rasterizer.projected import covariances

from .adaptive_density import DensifyResult, index_gaussians
from .gaussians import Gaussians

MAX_COPIES = 51  # copies of one Gaussian in one relocation


@dataclass(frozen=True, slots=True, kw_only=True)
class MCMCStrategy:
    """Parameters of relocation, growth and noise."""

    cap_max: int = 200_000  # Gaussians
    growth_factor: float = 0.05  # relative growth per densification
    min_opacity: float = 0.005  # opacity up to which a Gaussian is relocated
    noise: float = 0.5  # scale of the noise; 0.5 is that of 3DGS-MCMC at a pixel of 1/1000 scene unit
    noise_gate_opacity: float = 0.005  # opacity at which the noise is halved
    noise_gate_steepness: float = 100.0  # per unit of opacity

    def __post_init__(self) -> None:
        if not (
            self.cap_max > 0 and self.growth_factor >= 0 and 0 < self.min_opacity < 1 and self.noise >= 0
        ):
            raise ValueError(f"cap_max must be positive, growth_factor and noise not negative: {self}")


def relocate_and_add(
    scene: Gaussians, strategy: MCMCStrategy, *, generator: torch.Generator
) -> DensifyResult:
    """Relocate Gaussians of low opacity, then add copies of others, up to the cap.

    Args:
        scene: The Gaussians.
        strategy: Thresholds.
        generator: On the CPU: the same numbers on all devices.
    """
    moved = relocate(scene, scene.opacities.sigmoid() <= strategy.min_opacity, generator=generator)
    target_count = min(strategy.cap_max, int(len(scene) * (1 + strategy.growth_factor)))
    return moved.then(add(moved.scene, max(0, target_count - len(scene)), generator=generator))


def relocate(scene: Gaussians, dead: Tensor, *, generator: torch.Generator) -> DensifyResult:
    """Replace the Gaussians in `dead` [N] bool by copies of the others, without changing the rendering."""
    indices, alive = torch.arange(len(scene), device=dead.device), (~dead).nonzero()[:, 0]
    if not len(alive) or not bool(dead.any()):
        return index_gaussians(scene, indices, new=len(scene))
    sampled = _sample_by_opacity(scene, alive, int(dead.sum()), generator=generator)
    parents = indices.clone()
    parents[dead] = sampled
    return _split_opacity(scene, parents, sampled)


def add(scene: Gaussians, count: int, *, generator: torch.Generator) -> DensifyResult:
    """Append `count` copies, sampled by opacity, without changing the rendering."""
    indices = torch.arange(len(scene), device=scene.means.device)
    if not count or not len(scene):
        return index_gaussians(scene, indices, new=len(scene))
    sampled = _sample_by_opacity(scene, indices, count, generator=generator)
    return _split_opacity(scene, torch.cat([indices, sampled]), sampled)


def compute_relocation(opacities: Tensor, copies: Tensor) -> tuple[Tensor, Tensor]:
    """Opacity and scale of n coincident Gaussians that render like one.

    The alpha at the centre and the integral of alpha along any line through it are preserved: with o' =
    1 - (1 - o)^(1/n), the integral of 1 - (1 - o' G)^n is sigma sqrt(2 pi) times
    sum_k binom(n, k) (-1)^(k-1) o'^k / sqrt(k) (3DGS-MCMC, eq. 9, with its inner sum in closed form).

    Args:
        opacities: Opacity of the one. [N] in [0, 1).
        copies: Number n of Gaussians in its place. [N] from 1 to `MAX_COPIES`.

    Returns:
        [N] opacities, and [N] factors of the standard deviations.
    """
    o, n = opacities.double(), copies.double()[:, None]
    each = 1 - (1 - o) ** (1 / n[:, 0])
    k = torch.arange(1, MAX_COPIES + 1, dtype=torch.float64, device=o.device)
    ratios = (n - k + 1).clamp_min(0) / k  # binom(n, k) over binom(n, k - 1)
    terms = torch.cumprod(-ratios * each[:, None], dim=1)
    integral = -(terms / k.sqrt()).sum(1)
    return each.to(opacities), (o / integral).to(opacities)


def inject_noise(
    scene: Gaussians, strategy: MCMCStrategy, *, lr: float, pixel: float, generator: torch.Generator
) -> Tensor:
    """[N, 3] means with noise, which makes the optimiser a sampler (stochastic gradient Langevin dynamics).

    The noise has the covariance of each Gaussian, so that flat ones stay on their surface, and vanishes for
    opaque ones.

    Args:
        scene: The Gaussians.
        strategy: Scale and gate of the noise.
        lr: Current learning rate of the means, in scene units.
        pixel: Size of a pixel at the median depth, in scene units.
        generator: On the CPU.
    """
    samples = torch.randn(scene.means.shape, generator=generator).to(scene.means)
    opacity_margin = strategy.noise_gate_opacity - scene.opacities.detach().sigmoid()
    gate = torch.sigmoid(strategy.noise_gate_steepness * opacity_margin)
    covariance = covariances(scene.quats.detach(), scene.scales.detach().exp())
    strength = strategy.noise * lr / pixel**2
    return scene.means.detach() + strength * gate[:, None] * (covariance @ samples[..., None])[..., 0]


def _sample_by_opacity(
    scene: Gaussians, indices: Tensor, count: int, *, generator: torch.Generator
) -> Tensor:
    """[count] of the indices, with replacement, in proportion to opacity."""
    weights = scene.opacities.detach()[indices].double().sigmoid().cpu()
    return indices[
        torch.multinomial(weights, count, replacement=True, generator=generator).to(indices.device)
    ]


def _split_opacity(scene: Gaussians, parents: Tensor, sampled: Tensor) -> DensifyResult:
    """The Gaussians at `parents`, where the sampled ones and their copies together render like one."""
    result = index_gaussians(scene, parents, new=len(parents))
    count = 1 + torch.bincount(sampled, minlength=len(scene)).clamp_max(MAX_COPIES - 1)
    opaque = scene.opacities.detach().sigmoid().clamp(max=1 - 1e-6)
    opacities, factors = compute_relocation(opaque, count)
    is_changed = (count > 1)[parents]
    opacity_logits, scales = result.scene.opacities.clone(), result.scene.scales.clone()
    opacity_logits[is_changed] = torch.logit(opacities)[parents[is_changed]]
    scales[is_changed] += factors.log()[parents[is_changed], None]
    # The optimiser state of a parent does not fit its split copies.
    return DensifyResult(
        scene=result.scene.with_tensors({"opacities": opacity_logits, "scales": scales}),
        parent_index=parents,
        new=is_changed,
    )
