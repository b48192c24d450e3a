"""Where a scene needs more Gaussians: where the pictures pull hardest at those it has (Kerbl et al. 2023).

No opacity is ever reset: those who deblur found that it harms (Deblurring 3D-GS, arXiv:2401.00834).
`relocation` holds the other way to the same end.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from freezeframe.splatting.rasterizer.projected import covariance_roots

from .gaussians import Gaussians

SPLIT_SCALE = 1.6  # a half of a split Gaussian is so many times smaller


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveDensityControl:
    """When a Gaussian is cloned, split or pruned. Lengths are shares of the scene's extent."""

    extent: float  # of the scene, in its own unit
    grow_grad2d: float = 4e-4  # pull that a Gaussian bears in the beginning, see `Grad2dStats`
    grow_grad2d_final: float = 2e-4  # and from `anneal_until` on
    anneal_until: float = 1 / 3  # progress
    grow_scale3d: float = 0.01  # standard deviation up to which it is cloned, above which it is split
    prune_scale3d: float = 0.1  # standard deviation above which it is pruned
    prune_opa: float = 0.005  # opacity below which it is pruned
    cap_max: int = 300_000  # Gaussians

    def __post_init__(self) -> None:
        if (
            not min(self.extent, self.grow_grad2d, self.grow_grad2d_final, self.anneal_until, self.cap_max)
            > 0
        ):
            raise ValueError(f"extent, thresholds, their end and the cap are positive: {self}")

    def threshold(self, progress: float) -> float:
        """Pull that a Gaussian bears undivided.

        High at first, while a blurred scene pulls in all the wrong places (DeblurGS, arXiv:2404.11358).
        """
        fraction = min(max(progress / self.anneal_until, 0.0), 1.0)
        threshold: float = self.grow_grad2d * (self.grow_grad2d_final / self.grow_grad2d) ** fraction
        return threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class Grad2dStats:
    """How hard the pictures have pulled at each Gaussian since the last change.

    A pull is the length of the loss' gradient by a Gaussian's place on the screen, the screen being two
    units wide and high, and the loss that of one picture (gsplat's `grad2d`).
    """

    grad2d: Tensor  # [N] sum
    visible_count: Tensor  # [N] pictures that saw it

    @classmethod
    def none(cls, count: int, *, device: torch.device | str = "cpu") -> Grad2dStats:
        return cls(grad2d=torch.zeros(count, device=device), visible_count=torch.zeros(count, device=device))

    def after(self, info: Mapping[str, Any], *, pictures: int) -> Grad2dStats:
        """What is known after a backward pass.

        Args:
            info: As `rasterization` gave it; `info["means2d"].retain_grad()` was called before the pass.
            pictures: That the loss was the mean of, sub-frames counted singly.
        """
        screen = info["means2d"].grad
        if screen is None:
            raise ValueError('call info["means2d"].retain_grad() before the backward pass')
        half = screen.new_tensor([info["width"] / 2, info["height"] / 2])
        visible = (info["radii"] > 0).all(-1)
        grad2d = (screen * half * pictures).norm(dim=-1) * visible
        return Grad2dStats(
            grad2d=self.grad2d + grad2d.sum(0), visible_count=self.visible_count + visible.sum(0)
        )

    @property
    def mean(self) -> Tensor:
        """[N] pull per picture, 0 for what was not seen."""
        return self.grad2d / self.visible_count.clamp_min(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DensifyResult:
    """A scene after a change, and whom each of its M Gaussians comes from."""

    scene: Gaussians
    parent_index: Tensor  # [M] number in the scene before
    new: Tensor  # [M] bool: not the parent itself

    def then(self, later: DensifyResult) -> DensifyResult:
        """This change and one of its outcome, as one."""
        return DensifyResult(
            scene=later.scene,
            parent_index=self.parent_index[later.parent_index],
            new=later.new | self.new[later.parent_index],
        )


def densify(
    scene: Gaussians,
    grad2d_stats: Grad2dStats,
    control: AdaptiveDensityControl,
    *,
    progress: float,
    random: torch.Generator,
) -> DensifyResult:
    """Clone the small and split the large where the pictures pull, then prune.

    Args:
        scene: Before.
        grad2d_stats: Gathered since the last change.
        control: The limits.
        progress: Of the fit, in [0, 1].
        random: On the CPU, so that all devices take the same turns.
    """
    selected = _select_largest(
        grad2d_stats.mean, above=control.threshold(progress), capacity=control.cap_max - len(scene)
    )
    large = scene.scales.exp().amax(-1) > control.grow_scale3d * control.extent
    cloned = clone(scene, selected & ~large)
    # Clones stand behind the others: numbers before them have not changed.
    unselected = torch.zeros(len(cloned.scene) - len(scene), dtype=torch.bool, device=selected.device)
    grown = cloned.then(split(cloned.scene, torch.cat([selected & large, unselected]), random=random))
    return grown.then(
        prune(grown.scene, prune_opa=control.prune_opa, prune_scale3d=control.prune_scale3d * control.extent)
    )


def clone(scene: Gaussians, chosen: Tensor) -> DensifyResult:
    """Put a copy of each chosen Gaussian behind all others; the optimiser will part them."""
    indices = torch.arange(len(scene), device=chosen.device)
    return index_gaussians(scene, torch.cat([indices, indices[chosen]]), new=len(scene))


def split(scene: Gaussians, chosen: Tensor, *, random: torch.Generator) -> DensifyResult:
    """Replace each chosen Gaussian by two smaller ones, drawn from it on opposite sides of its middle."""
    indices = torch.arange(len(scene), device=chosen.device)
    result = index_gaussians(
        scene, torch.cat([indices[~chosen], indices[chosen].repeat(2)]), new=int((~chosen).sum())
    )
    old = result.scene
    is_half = result.new
    roots = covariance_roots(old.quats[is_half], old.scales[is_half].exp())
    draws = torch.randn(int(chosen.sum()), 3, generator=random).to(roots)
    offset = (roots @ torch.cat([draws, -draws])[..., None])[..., 0]
    means, scales = old.means.clone(), old.scales.clone()
    means[is_half] += offset
    scales[is_half] -= scales.new_tensor(SPLIT_SCALE).log()
    return DensifyResult(
        scene=old.with_tensors({"means": means, "scales": scales}),
        parent_index=result.parent_index,
        new=result.new,
    )


def prune(scene: Gaussians, *, prune_opa: float, prune_scale3d: float) -> DensifyResult:
    """Leave out what is hardly seen, and what is wider than the scene has room for."""
    mask = (scene.opacities.sigmoid() >= prune_opa) & (scene.scales.exp().amax(-1) <= prune_scale3d)
    surviving = mask.nonzero()[:, 0]
    return index_gaussians(scene, surviving, new=len(surviving))


def index_gaussians(scene: Gaussians, parents: Tensor, *, new: int) -> DensifyResult:
    """Copies of the Gaussians with the numbers `parents` [M], of which those from place `new` on are new."""
    parts = {name: value.detach()[parents] for name, value in scene.parts().items()}
    is_new = torch.arange(len(parents), device=parents.device) >= new
    return DensifyResult(scene=Gaussians(**parts), parent_index=parents, new=is_new)


def replace_params(values: nn.ParameterDict, optimizer: torch.optim.Optimizer, result: DensifyResult) -> None:
    """Put the heirs in their parents' place, with an optimiser that knows what it knew of the survivors."""
    for name, value in result.scene.parts().items():
        old, new_param = values[name], nn.Parameter(value.detach().clone())
        values[name] = new_param
        for group in optimizer.param_groups:
            group["params"] = [new_param if each is old else each for each in group["params"]]
        if old in optimizer.state:
            optimizer.state[new_param] = transfer_optimizer_state(optimizer.state.pop(old), result)


def transfer_optimizer_state(state: Mapping[str, Any], result: DensifyResult) -> dict[str, Any]:
    """An optimiser's memory of one part: the survivors' moments as they were, none of the new ones."""
    return {
        name: _without(moment[result.parent_index], result.new)
        if torch.is_tensor(moment) and moment.ndim
        else moment
        for name, moment in state.items()
    }


def _without(moment: Tensor, new: Tensor) -> Tensor:
    moment[new] = 0
    return moment


def _select_largest(grad2d: Tensor, *, above: float, capacity: int) -> Tensor:
    """[N] bool: the Gaussians pulled at more than `above`, the strongest where there is no room for all."""
    chosen = grad2d > above
    if int(chosen.sum()) > capacity:
        best = grad2d.topk(max(capacity, 0)).indices
        chosen = torch.zeros_like(chosen)
        chosen[best] = True
    return chosen
