"""Frames of a patterned disc on a steady path before a still wall, by its formula."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from freezeframe.splatting.layers.fit import LayerFitConfig, LayerStart, fit_layer
from freezeframe.splatting.layers.layer import Crops, Layer

SIZE = (60, 120)  # height, width
RADIUS = 8.0
COUNT = 5
SHUTTER = 0.6
SPEED = 12.0  # pixels per frame
ORIGIN = (200.0, 40.0)  # the crops lie somewhere in a larger frame


@dataclass(frozen=True)
class DrawnDisc:
    """What was recorded, and what was there."""

    crops: Crops
    sharp: Tensor  # [T, 3, H, W] at the middle of each exposure, linear RGB
    coverage: Tensor  # [T, H, W] mean over the exposure
    position: Tensor  # [T, 2] frame coordinates


def start_of(disc: DrawnDisc, *, shutter: float = SHUTTER, shutter_known: bool = True) -> LayerStart:
    """A start up to 1.5 px from the path."""
    error = torch.tensor([[1.0, -0.8], [-1.2, 0.5], [0.7, 1.0], [-0.5, -1.0], [1.0, 0.6]])
    return LayerStart(
        position=disc.position + error, size=(20, 20), shutter=shutter, shutter_known=shutter_known,
    )  # fmt: skip


@cache
def fitted_disc() -> Layer:
    """The layer of a short fit with the true shutter."""
    disc = film_disc()
    return fit_layer(disc.crops, start_of(disc), config=LayerFitConfig(steps=(60, 40)))


def without_object(disc: DrawnDisc) -> Crops:
    """The same background alone, with grain."""
    grain = 0.003 * torch.randn(disc.sharp.shape, generator=torch.Generator().manual_seed(4))
    return replace(disc.crops, images=(disc.crops.background + grain).clamp(0, 1))


@cache
def film_disc() -> DrawnDisc:
    times = torch.arange(float(COUNT))
    inside = torch.tensor([32.3, 25.6]) + times[:, None] * torch.tensor([SPEED, 2.0])
    offsets = ((torch.arange(48) + 0.5) / 48 - 0.5) * SHUTTER
    velocity = torch.tensor([SPEED, 2.0])
    wall = _wall()
    recorded = [torch.stack([_disc(c + u * velocity) for u in offsets]).mean(0) for c in inside]
    blurred, sharp = torch.stack(recorded), torch.stack([_disc(centre) for centre in inside])
    origin = torch.tensor(ORIGIN).expand(COUNT, 2)
    return DrawnDisc(
        crops=Crops(
            images=_over(blurred, wall), background=wall.expand(COUNT, -1, -1, -1),
            weight=torch.ones(COUNT, *SIZE), origin=origin, times=times,
        ),
        sharp=_over(sharp, wall), coverage=blurred[:, 3], position=inside + origin,
    )  # fmt: skip


def _disc(centre: Tensor) -> Tensor:
    """[4, H, W] premultiplied light and alpha of a disc with stripes of about 6 px, its edge 1 px wide."""
    y, x = _pixels()
    dx, dy = x - centre[0], y - centre[1]
    alpha = (RADIUS + 0.5 - torch.hypot(dx, dy)).clamp(0, 1)
    light = torch.stack([0.55 + 0.4 * (dx + 0.4 * dy).sin(), 0.5 + 0.4 * dx.mul(0.9).cos(), 0.3 - dy / 40])
    return torch.cat([light * alpha, alpha[None]])


def _wall() -> Tensor:
    """[3, H, W] with waves of 9 to 16 px."""
    y, x = _pixels()
    waves = [(k + 0.45 * x + 0.3 * y).sin() + 0.8 * (0.4 * x - (0.5 + 0.1 * k) * y).sin() for k in range(3)]
    return 0.25 + 0.1 * torch.stack(waves)


def _over(disc: Tensor, wall: Tensor) -> Tensor:
    return disc[:, :3] + (1 - disc[:, 3:]) * wall


def _pixels() -> tuple[Tensor, Tensor]:
    y, x = torch.meshgrid(torch.arange(SIZE[0]).float(), torch.arange(SIZE[1]).float(), indexing="ij")
    return y, x
