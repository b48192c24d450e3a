"""Adaptive density control: clone, split and prune Gaussians by their 2D gradients (Kerbl et al. 2023).

Opacities are never reset, which harms deblurring (Deblurring 3D-GS, arXiv:2401.00834). `mcmc.py` is the
alternative.

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


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveDensityControl:
    """Thresholds of cloning, splitting and pruning. Scales are relative to `extent`."""

    extent: float  # of the scene, in scene units
    grow_grad2d: float = 4e-4  # threshold of the mean 2D gradient at the start, see `Grad2dStats`
    grow_grad2d_final: float = 2e-4  # threshold from `anneal_until` on
    anneal_until: float = 1 / 3  # progress
    grow_scale3d: float = 0.01  # standard deviation up to which a Gaussian is cloned, above which split
    prune_scale3d: float = 0.1  # standard deviation above which it is pruned
    prune_opa: float = 0.005  # opacity below which it is pruned
    split_factor: float = 1.6  # standard deviation of a Gaussian over that of its halves
    cap_max: int = 300_000  # Gaussians

    def __post_init__(self) -> None:
        if (
            not min(self.extent, self.grow_grad2d, self.grow_grad2d_final, self.anneal_until, self.cap_max)
            > 0
        ):
            raise ValueError(f"extent, thresholds, anneal_until and cap_max must be positive: {self}")

    def threshold(self, progress: float) -> float:
        """Threshold of the mean 2D gradient at a progress in [0, 1], annealed exponentially.

        High at first, while the gradients of a blurred scene are misplaced (DeblurGS, arXiv:2404.11358).
        """
        fraction = min(max(progress / self.anneal_until, 0.0), 1.0)
        threshold: float = self.grow_grad2d * (self.grow_grad2d_final / self.grow_grad2d) ** fraction
        return threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class Grad2dStats:
    """Accumulated 2D gradients since the last densification.

    A 2D gradient is the norm of the gradient of the loss of one image by the projected mean, in coordinates
    from -1 to 1 over the image (gsplat's `grad2d`).
    """

    grad2d: Tensor  # [N] sum of norms
    visible_count: Tensor  # [N] images in which the Gaussian is visible

    @classmethod
    def zeros(cls, count: int, *, device: torch.device | str = "cpu") -> Grad2dStats:
        return cls(grad2d=torch.zeros(count, device=device), visible_count=torch.zeros(count, device=device))

    def accumulate(self, info: Mapping[str, Any], *, images: int) -> Grad2dStats:
        """Add the gradients of a backward pass.

        Args:
            info: Of `rasterization`; `info["means2d"].retain_grad()` was called before the backward pass.
            images: Images over which the loss is a mean; each sub-frame counts.
        """
        gradient = info["means2d"].grad
        if gradient is None:
            raise ValueError('call info["means2d"].retain_grad() before the backward pass')
        half_size = gradient.new_tensor([info["width"] / 2, info["height"] / 2])
        visible = (info["radii"] > 0).all(-1)
        grad2d = (gradient * half_size * images).norm(dim=-1) * visible
        return Grad2dStats(
            grad2d=self.grad2d + grad2d.sum(0), visible_count=self.visible_count + visible.sum(0)
        )

    @property
    def mean(self) -> Tensor:
        """[N] mean norm per image, 0 for Gaussians that were never visible."""
        return self.grad2d / self.visible_count.clamp_min(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DensifyResult:
    """M Gaussians after a change, with their parents among the N before it."""

    scene: Gaussians
    parent_index: Tensor  # [M] index before the change
    new: Tensor  # [M] bool: False where the Gaussian is its parent, unchanged

    def then(self, later: DensifyResult) -> DensifyResult:
        """The composition of this change and a later one."""
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
    generator: torch.Generator,
) -> DensifyResult:
    """Clone small and split large Gaussians above the gradient threshold, then prune.

    Args:
        scene: The Gaussians.
        grad2d_stats: Accumulated since the last densification.
        control: Thresholds.
        progress: Of the fit, in [0, 1].
        generator: On the CPU: the same numbers on all devices.
    """
    selected = _select_largest(
        grad2d_stats.mean, above=control.threshold(progress), capacity=control.cap_max - len(scene)
    )
    large = scene.scales.exp().amax(-1) > control.grow_scale3d * control.extent
    cloned = clone(scene, selected & ~large)
    # Clones are appended: earlier indices stay valid.
    unselected = torch.zeros(len(cloned.scene) - len(scene), dtype=torch.bool, device=selected.device)
    grown = cloned.then(
        split(
            cloned.scene,
            torch.cat([selected & large, unselected]),
            factor=control.split_factor,
            generator=generator,
        )
    )
    return grown.then(
        prune(grown.scene, prune_opa=control.prune_opa, prune_scale3d=control.prune_scale3d * control.extent)
    )


def clone(scene: Gaussians, mask: Tensor) -> DensifyResult:
    """Append a copy of each Gaussian in `mask` [N] bool; the optimiser separates the two."""
    indices = torch.arange(len(scene), device=mask.device)
    return index_gaussians(scene, torch.cat([indices, indices[mask]]), new=len(scene))


def split(
    scene: Gaussians, mask: Tensor, *, factor: float = 1.6, generator: torch.Generator
) -> DensifyResult:
    """Replace each Gaussian in a mask by two smaller ones, sampled from it symmetrically about its mean.

    Args:
        scene: The Gaussians.
        mask: [N] bool.
        factor: Standard deviation before over after.
        generator: On the CPU.
    """
    indices = torch.arange(len(scene), device=mask.device)
    result = index_gaussians(
        scene, torch.cat([indices[~mask], indices[mask].repeat(2)]), new=int((~mask).sum())
    )
    old = result.scene
    is_half = result.new
    roots = covariance_roots(old.quats[is_half], old.scales[is_half].exp())
    samples = torch.randn(int(mask.sum()), 3, generator=generator).to(roots)
    offset = (roots @ torch.cat([samples, -samples])[..., None])[..., 0]
    means, scales = old.means.clone(), old.scales.clone()
    means[is_half] += offset
    scales[is_half] -= scales.new_tensor(factor).log()
    return DensifyResult(
        scene=old.with_tensors({"means": means, "scales": scales}),
        parent_index=result.parent_index,
        new=result.new,
    )


def prune(scene: Gaussians, *, prune_opa: float, prune_scale3d: float) -> DensifyResult:
    """Remove Gaussians of low opacity or large scale (scene units)."""
    mask = (scene.opacities.sigmoid() >= prune_opa) & (scene.scales.exp().amax(-1) <= prune_scale3d)
    surviving = mask.nonzero()[:, 0]
    return index_gaussians(scene, surviving, new=len(surviving))


def index_gaussians(scene: Gaussians, parents: Tensor, *, new: int) -> DensifyResult:
    """Copies of the Gaussians at the indices `parents` [M]; positions from `new` on are marked as new."""
    parts = {name: value.detach()[parents] for name, value in scene.parts().items()}
    is_new = torch.arange(len(parents), device=parents.device) >= new
    return DensifyResult(scene=Gaussians(**parts), parent_index=parents, new=is_new)


def replace_params(values: nn.ParameterDict, optimizer: torch.optim.Optimizer, result: DensifyResult) -> None:
    """Replace the parameters by those of a result; unchanged Gaussians keep their optimiser state."""
    for name, value in result.scene.parts().items():
        old, new_param = values[name], nn.Parameter(value.detach().clone())
        values[name] = new_param
        for group in optimizer.param_groups:
            group["params"] = [new_param if param is old else param for param in group["params"]]
        if old in optimizer.state:
            optimizer.state[new_param] = transfer_optimizer_state(optimizer.state.pop(old), result)


def transfer_optimizer_state(state: Mapping[str, Any], result: DensifyResult) -> dict[str, Any]:
    """Optimiser state of one parameter: moments of unchanged Gaussians are kept, those of new ones zero."""
    return {
        name: _zero_new(moment[result.parent_index], result.new)
        if torch.is_tensor(moment) and moment.ndim
        else moment
        for name, moment in state.items()
    }


def _zero_new(moment: Tensor, new: Tensor) -> Tensor:
    moment[new] = 0
    return moment


def _select_largest(grad2d: Tensor, *, above: float, capacity: int) -> Tensor:
    """[N] bool: gradients greater than `above`, at most the `capacity` largest."""
    mask = grad2d > above
    if int(mask.sum()) > capacity:
        largest = grad2d.topk(max(capacity, 0)).indices
        mask = torch.zeros_like(mask)
        mask[largest] = True
    return mask
