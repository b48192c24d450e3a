"""Gaussians as samples of the scene, moved by chance to where they are needed (3DGS-MCMC, arXiv:2404.09591).

Their number is set from outside and no gradient decides: from a poor start this finds more than `density`
does. What is faint comes to rest on what is not, and all are shaken a little so that none gets stuck.

Nothing here takes a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from freezeframe.splatting.rasterizer.projected import covariances

from .adaptive_density import DensifyResult, index_gaussians
from .gaussians import Gaussians

MAX_COPIES = 51  # copies of one Gaussian at once
NOISE_GATE_OPACITY, NOISE_GATE_STEEPNESS = (
    0.005,
    100.0,
)  # opacity at which shaking fades out, and how suddenly


@dataclass(frozen=True, slots=True, kw_only=True)
class MCMCStrategy:
    """How a scene is sampled."""

    cap_max: int = 200_000  # Gaussians
    growth_factor: float = 0.05  # share by which their number grows at once
    min_opacity: float = 0.005  # opacity up to which a Gaussian is free to go elsewhere
    noise: float = 0.5  # of the shaking, see `inject_noise`

    def __post_init__(self) -> None:
        if not (
            self.cap_max > 0 and self.growth_factor >= 0 and 0 < self.min_opacity < 1 and self.noise >= 0
        ):
            raise ValueError(f"a cap is positive, shares and noise are not negative: {self}")


def relocate_and_add(scene: Gaussians, strategy: MCMCStrategy, *, random: torch.Generator) -> DensifyResult:
    """Send the dead to the living, then add some, up to the cap.

    Args:
        scene: Before.
        strategy: The limits.
        random: On the CPU, so that all devices take the same turns.
    """
    moved = relocate(scene, scene.opacities.sigmoid() <= strategy.min_opacity, random=random)
    target_count = min(strategy.cap_max, int(len(scene) * (1 + strategy.growth_factor)))
    return moved.then(add(moved.scene, max(0, target_count - len(scene)), random=random))


def relocate(scene: Gaussians, dead: Tensor, *, random: torch.Generator) -> DensifyResult:
    """Make copies of the living out of the dead [N] bool; what is seen stays as it was."""
    indices, living = torch.arange(len(scene), device=dead.device), (~dead).nonzero()[:, 0]
    if not len(living) or not bool(dead.any()):
        return index_gaussians(scene, indices, new=len(scene))
    chosen = _by_opacity(scene, living, int(dead.sum()), random=random)
    parents = indices.clone()
    parents[dead] = chosen
    return _relocated(scene, parents, chosen)


def add(scene: Gaussians, count: int, *, random: torch.Generator) -> DensifyResult:
    """Put `count` copies of the more opaque ones behind all others; what is seen stays as it was."""
    indices = torch.arange(len(scene), device=scene.means.device)
    if not count or not len(scene):
        return index_gaussians(scene, indices, new=len(scene))
    chosen = _by_opacity(scene, indices, count, random=random)
    return _relocated(scene, torch.cat([indices, chosen]), chosen)


def compute_relocation(opacities: Tensor, copies: Tensor) -> tuple[Tensor, Tensor]:
    """Opacity of each of several Gaussians in one place, and their size, so that they look as one did.

    The stack is as opaque as the one in the middle, and covers as much of any line through it: with o' =
    1 - (1 - o)^(1/n), its cover 1 - (1 - o' G)^n sums along the line to sigma sqrt(2 pi) times
    sum_k binom(n, k) (-1)^(k-1) o'^k / sqrt(k) (3DGS-MCMC, eq. 9, its inner sum done).

    Args:
        opacities: Of the one. [N] in [0, 1).
        copies: How many take its place, the one included. [N] from 1 to `MAX_COPIES`.

    Returns:
        [N] opacities, and [N] factors on the standard deviations.
    """
    o, n = opacities.double(), copies.double()[:, None]
    each = 1 - (1 - o) ** (1 / n[:, 0])
    k = torch.arange(1, MAX_COPIES + 1, dtype=torch.float64, device=o.device)
    falls = (n - k + 1).clamp_min(0) / k  # binom(n, k) over binom(n, k - 1)
    terms = torch.cumprod(-falls * each[:, None], dim=1)
    cover = -(terms / k.sqrt()).sum(1)
    return each.to(opacities), (o / cover).to(opacities)


def inject_noise(
    scene: Gaussians, *, lr: float, pixel: float, noise: float, random: torch.Generator
) -> Tensor:
    """[N, 3] means moved at random, the fainter ones by about `noise` of their own width.

    Noise turns the optimiser's walk into a sampler (stochastic gradient Langevin dynamics). It is shaped as
    each Gaussian is, so that flat ones stay on their surface, and spares what is opaque.

    Args:
        scene: The Gaussians.
        lr: Learning rate of the means, now, in the scene's unit.
        pixel: What one pixel spans at the scene's usual distance.
        noise: At 0.5 that of 3DGS-MCMC, whose scenes have pixels of about a thousandth of a unit.
        random: On the CPU.
    """
    draws = torch.randn(scene.means.shape, generator=random).to(scene.means)
    gate = torch.sigmoid(NOISE_GATE_STEEPNESS * (NOISE_GATE_OPACITY - scene.opacities.detach().sigmoid()))
    covariance = covariances(scene.quats.detach(), scene.scales.detach().exp())
    strength = noise * lr / pixel**2
    return scene.means.detach() + strength * gate[:, None] * (covariance @ draws[..., None])[..., 0]


def _by_opacity(scene: Gaussians, among: Tensor, count: int, *, random: torch.Generator) -> Tensor:
    """[count] of the numbers `among`, the more opaque the more often."""
    weights = scene.opacities.detach()[among].double().sigmoid().cpu()
    return among[torch.multinomial(weights, count, replacement=True, generator=random).to(among.device)]


def _relocated(scene: Gaussians, parents: Tensor, chosen: Tensor) -> DensifyResult:
    """The scene with the numbers `parents`, where the chosen and their copies share one look."""
    result = index_gaussians(scene, parents, new=len(parents))
    count = 1 + torch.bincount(chosen, minlength=len(scene)).clamp_max(MAX_COPIES - 1)
    opaque = scene.opacities.detach().sigmoid().clamp(max=1 - 1e-6)
    opacities, factors = compute_relocation(opaque, count)
    is_changed = (count > 1)[parents]
    opacity_logits, scales = result.scene.opacities.clone(), result.scene.scales.clone()
    opacity_logits[is_changed] = torch.logit(opacities)[parents[is_changed]]
    scales[is_changed] += factors.log()[parents[is_changed], None]
    # The optimiser knows the one, not the shares of it.
    return DensifyResult(
        scene=result.scene.with_tensors({"opacities": opacity_logits, "scales": scales}),
        parent_index=parents,
        new=is_changed,
    )
