"""One step of DreamClear's denoising: with and without the caption, in tiles where the latent is large.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Literal

import torch
from torch import Tensor

from .color_fix import ColorFix
from .controlnet import Conditions, DreamClearNet
from .pixart_dit import Caption
from .schedulers import Denoise, Sampler, guided


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the release leaves open at inference; its own defaults but for `upscale`, there 4."""

    steps: int = 50
    guidance: float = 4.5  # by the caption; 1 is none
    seed: int = 0
    sampler: Sampler = "ddpm"
    start: Literal["coarse", "noise"] = "coarse"
    guided: Literal["released", "all"] = "released"
    color: ColorFix = "wavelet"
    upscale: float = 1.0
    shortest: int = 1024  # pixels that the shorter side is enlarged to at least
    tile: int = 128  # latent pixels
    overlap: int = 32  # latent pixels

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.tile:
            raise ValueError(f"tiles of {self.tile} latent pixels cannot share {self.overlap}")
        if self.upscale <= 0 or self.steps < 1:
            raise ValueError(f"upscale ({self.upscale}) and steps ({self.steps}) must be positive")


def no_caption(network: DreamClearNet) -> Caption:
    """What training showed in place of captions left out."""
    learned = network.base_model.y_embedder.y_embedding[None]
    return Caption(features=learned, present=torch.ones_like(learned[..., 0], dtype=torch.bool))


def denoiser(network: DreamClearNet, conditions: Conditions, *, settings: Settings) -> Denoise:
    """The network with and without the caption, the one led away from the other, in tiles where need be."""
    channels = network.base_model.sizes.latent - (settings.guided == "released")

    def denoise(latent: Tensor, step: int) -> Tensor:
        def one(rows: slice, columns: slice) -> Tensor:
            index = (..., rows, columns)
            here = Conditions(
                degraded=conditions.degraded[index],
                coarse=conditions.coarse[index],
                caption=conditions.caption,
            )
            both = network(*guidance_batch(network, latent[index], step, here)).to(latent)
            return guided(both[:1], both[1:], scale=settings.guidance, channels=channels)

        return gaussian_tiled(one, latent, tile=settings.tile, overlap=settings.overlap)

    return denoise


def guidance_batch(
    network: DreamClearNet, latent: Tensor, step: int, conditions: Conditions
) -> tuple[Tensor, Tensor, Conditions]:
    """The network's inputs twice, the second time without caption, in the network's number format."""
    none, caption = no_caption(network).features, conditions.caption
    both = Caption(
        features=torch.cat([caption.features.to(none), none]), present=caption.present.expand(2, -1)
    )
    pictures = (latent, conditions.degraded, conditions.coarse)
    pairs = (each.to(none).expand(2, -1, -1, -1) for each in pictures)
    noisy, degraded, coarse = pairs
    level = torch.full((2,), step, device=latent.device)
    return noisy, level, Conditions(degraded=degraded, coarse=coarse, caption=both)


def gaussian_tiled(
    one: Callable[[slice, slice], Tensor], latent: Tensor, *, tile: int, overlap: int
) -> Tensor:
    """What `one` says of each tile of a latent [1, C, h, w], weighed by a bell: [1, 2C, h, w]."""
    height, width = latent.shape[-2:]
    if height <= tile and width <= tile:
        return one(slice(None), slice(None))
    # A bell's corner is 1e-11 of its middle: too little for half precision to add up.
    total = torch.zeros(1, 2 * latent.shape[1], height, width, device=latent.device)
    weight = torch.zeros(height, width, device=latent.device)
    for rows, columns in product(_tile_slices(height, tile, overlap), _tile_slices(width, tile, overlap)):
        answer = one(rows, columns)
        weights = (_gaussian_window(answer.shape[-2])[:, None] * _gaussian_window(answer.shape[-1])).to(
            weight
        )
        total[..., rows, columns] += answer.float() * weights
        weight[rows, columns] += weights
    return (total / weight).to(latent)


def _tile_slices(length: int, tile: int, overlap: int) -> list[slice]:
    """Tiles that share `overlap`, the last ending where the latent does."""
    last = max(length - tile, 0)
    starts = [*range(0, last, tile - overlap), last]
    return [slice(start, min(start + tile, length)) for start in starts]


def _gaussian_window(length: int) -> Tensor:
    """A Gaussian a tenth as wide as the tile."""
    position = (torch.arange(length, dtype=torch.float64) - (length - 1) / 2) / length
    return torch.exp(-(position**2) / (2 * 0.01))
