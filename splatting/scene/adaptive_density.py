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

SHRINK = 1.6  # a half of a split Gaussian is so many times smaller


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """When a Gaussian is cloned, split or pruned. Lengths are shares of the scene's extent."""

    extent: float  # of the scene, in its own unit
    first: float = 4e-4  # pull that a Gaussian bears in the beginning, see `Evidence`
    last: float = 2e-4  # and from `until` on
    until: float = 1 / 3  # progress
    small: float = 0.01  # standard deviation up to which it is cloned, above which it is split
    wide: float = 0.1  # standard deviation above which it is pruned
    faint: float = 0.005  # opacity below which it is pruned
    cap: int = 300_000  # Gaussians

    def __post_init__(self) -> None:
        if not min(self.extent, self.first, self.last, self.until, self.cap) > 0:
            raise ValueError(f"extent, thresholds, their end and the cap are positive: {self}")

    def threshold(self, progress: float) -> float:
        """Pull that a Gaussian bears undivided.

        High at first, while a blurred scene pulls in all the wrong places (DeblurGS, arXiv:2404.11358).
        """
        share = min(max(progress / self.until, 0.0), 1.0)
        held: float = self.first * (self.last / self.first) ** share
        return held


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """How hard the pictures have pulled at each Gaussian since the last change.

    A pull is the length of the loss' gradient by a Gaussian's place on the screen, the screen being two
    units wide and high, and the loss that of one picture (gsplat's `grad2d`).
    """

    pull: Tensor  # [N] sum
    times: Tensor  # [N] pictures that saw it

    @classmethod
    def none(cls, count: int, *, device: torch.device | str = "cpu") -> Evidence:
        return cls(pull=torch.zeros(count, device=device), times=torch.zeros(count, device=device))

    def after(self, info: Mapping[str, Any], *, pictures: int) -> Evidence:
        """What is known after a backward pass.

        Args:
            info: As `rasterization` gave it; `info["means2d"].retain_grad()` was called before the pass.
            pictures: That the loss was the mean of, sub-frames counted singly.
        """
        screen = info["means2d"].grad
        if screen is None:
            raise ValueError('call info["means2d"].retain_grad() before the backward pass')
        half = screen.new_tensor([info["width"] / 2, info["height"] / 2])
        seen = (info["radii"] > 0).all(-1)
        pull = (screen * half * pictures).norm(dim=-1) * seen
        return Evidence(pull=self.pull + pull.sum(0), times=self.times + seen.sum(0))

    @property
    def mean(self) -> Tensor:
        """[N] pull per picture, 0 for what was not seen."""
        return self.pull / self.times.clamp_min(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heirs:
    """A scene after a change, and whom each of its M Gaussians comes from."""

    scene: Gaussians
    parent: Tensor  # [M] number in the scene before
    new: Tensor  # [M] bool: not the parent itself

    def then(self, later: Heirs) -> Heirs:
        """This change and one of its outcome, as one."""
        return Heirs(
            scene=later.scene,
            parent=self.parent[later.parent],
            new=later.new | self.new[later.parent],
        )


def grow(
    scene: Gaussians,
    evidence: Evidence,
    growth: Growth,
    *,
    progress: float,
    random: torch.Generator,
) -> Heirs:
    """Clone the small and split the large where the pictures pull, then prune.

    Args:
        scene: Before.
        evidence: Gathered since the last change.
        growth: The limits.
        progress: Of the fit, in [0, 1].
        random: On the CPU, so that all devices take the same turns.
    """
    pulled = _strongest(evidence.mean, above=growth.threshold(progress), room=growth.cap - len(scene))
    large = scene.scales.exp().amax(-1) > growth.small * growth.extent
    cloned = clone(scene, pulled & ~large)
    # Clones stand behind the others: numbers before them have not changed.
    still = torch.zeros(len(cloned.scene) - len(scene), dtype=torch.bool, device=pulled.device)
    grown = cloned.then(split(cloned.scene, torch.cat([pulled & large, still]), random=random))
    return grown.then(prune(grown.scene, faint=growth.faint, wide=growth.wide * growth.extent))


def clone(scene: Gaussians, chosen: Tensor) -> Heirs:
    """Put a copy of each chosen Gaussian behind all others; the optimiser will part them."""
    everyone = torch.arange(len(scene), device=chosen.device)
    return descend(scene, torch.cat([everyone, everyone[chosen]]), new=len(scene))


def split(scene: Gaussians, chosen: Tensor, *, random: torch.Generator) -> Heirs:
    """Replace each chosen Gaussian by two smaller ones, drawn from it on opposite sides of its middle."""
    everyone = torch.arange(len(scene), device=chosen.device)
    heirs = descend(
        scene, torch.cat([everyone[~chosen], everyone[chosen].repeat(2)]), new=int((~chosen).sum())
    )
    old = heirs.scene
    halves = heirs.new
    roots = covariance_roots(old.quats[halves], old.scales[halves].exp())
    draws = torch.randn(int(chosen.sum()), 3, generator=random).to(roots)
    aside = (roots @ torch.cat([draws, -draws])[..., None])[..., 0]
    means, scales = old.means.clone(), old.scales.clone()
    means[halves] += aside
    scales[halves] -= scales.new_tensor(SHRINK).log()
    return Heirs(scene=old.having({"means": means, "scales": scales}), parent=heirs.parent, new=heirs.new)


def prune(scene: Gaussians, *, faint: float, wide: float) -> Heirs:
    """Leave out what is hardly seen, and what is wider than the scene has room for."""
    kept = (scene.opacities.sigmoid() >= faint) & (scene.scales.exp().amax(-1) <= wide)
    survivors = kept.nonzero()[:, 0]
    return descend(scene, survivors, new=len(survivors))


def descend(scene: Gaussians, parents: Tensor, *, new: int) -> Heirs:
    """Copies of the Gaussians with the numbers `parents` [M], of which those from place `new` on are new."""
    parts = {name: value.detach()[parents] for name, value in scene.parts().items()}
    fresh = torch.arange(len(parents), device=parents.device) >= new
    return Heirs(scene=Gaussians(**parts), parent=parents, new=fresh)


def adopt(values: nn.ParameterDict, optimiser: torch.optim.Optimizer, heirs: Heirs) -> None:
    """Put the heirs in their parents' place, with an optimiser that knows what it knew of the survivors."""
    for name, value in heirs.scene.parts().items():
        old, young = values[name], nn.Parameter(value.detach().clone())
        values[name] = young
        for group in optimiser.param_groups:
            group["params"] = [young if each is old else each for each in group["params"]]
        if old in optimiser.state:
            optimiser.state[young] = inherited(optimiser.state.pop(old), heirs)


def inherited(state: Mapping[str, Any], heirs: Heirs) -> dict[str, Any]:
    """An optimiser's memory of one part: the survivors' moments as they were, none of the new ones."""
    return {
        name: _without(moment[heirs.parent], heirs.new) if torch.is_tensor(moment) and moment.ndim else moment
        for name, moment in state.items()
    }


def _without(moment: Tensor, new: Tensor) -> Tensor:
    moment[new] = 0
    return moment


def _strongest(pull: Tensor, *, above: float, room: int) -> Tensor:
    """[N] bool: the Gaussians pulled at more than `above`, the strongest where there is no room for all."""
    chosen = pull > above
    if int(chosen.sum()) > room:
        best = pull.topk(max(room, 0)).indices
        chosen = torch.zeros_like(chosen)
        chosen[best] = True
    return chosen
