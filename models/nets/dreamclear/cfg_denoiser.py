"""One denoising step of DreamClear: classifier-free guidance by the caption, in tiles for large latents.

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
    """Options of inference. The defaults are the release's, but for `upscale`, there 4."""

    steps: int = 50
    guidance: float = 4.5  # scale of the guidance by the caption; 1 is none
    seed: int = 0
    sampler: Sampler = "ddpm"
    start: Literal["coarse", "noise"] = "coarse"
    guided: Literal["released", "all"] = "released"
    color: ColorFix = "wavelet"
    upscale: float = 1.0
    shortest: int = 1024  # minimum of the shorter side, reached by upsampling. Pixels
    tile: int = 128  # latent pixels
    overlap: int = 32  # latent pixels

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.tile:
            raise ValueError(f"overlap {self.overlap}: must be at least 0 and less than tile ({self.tile})")
        if self.upscale <= 0 or self.steps < 1:
            raise ValueError(f"upscale ({self.upscale}) and steps ({self.steps}) must be positive")


def no_caption(network: DreamClearNet) -> Caption:
    """Return the learned embedding that stands for a missing caption in training."""
    learned = network.base_model.y_embedder.y_embedding[None]
    return Caption(features=learned, present=torch.ones_like(learned[..., 0], dtype=torch.bool))


def denoiser(network: DreamClearNet, conditions: Conditions, *, settings: Settings) -> Denoise:
    """Wrap the network as a `Denoise` with guidance, in tiles for latents larger than `settings.tile`."""
    channels = network.base_model.config.latent - (settings.guided == "released")

    def denoise(latent: Tensor, step: int) -> Tensor:
        def denoise_tile(rows: slice, columns: slice) -> Tensor:
            index = (..., rows, columns)
            tile_conditions = Conditions(
                degraded=conditions.degraded[index],
                coarse=conditions.coarse[index],
                caption=conditions.caption,
            )
            both = network(*guidance_batch(network, latent[index], step, tile_conditions)).to(latent)
            return guided(both[:1], both[1:], scale=settings.guidance, channels=channels)

        return gaussian_tiled(denoise_tile, latent, tile=settings.tile, overlap=settings.overlap)

    return denoise


def guidance_batch(
    network: DreamClearNet, latent: Tensor, step: int, conditions: Conditions
) -> tuple[Tensor, Tensor, Conditions]:
    """Repeat the network's inputs, the second time without caption, in the network's number format."""
    unconditional, caption = no_caption(network).features, conditions.caption
    both = Caption(
        features=torch.cat([caption.features.to(unconditional), unconditional]),
        present=caption.present.expand(2, -1),
    )
    latents = (latent, conditions.degraded, conditions.coarse)
    noisy, degraded, coarse = (each.to(unconditional).expand(2, -1, -1, -1) for each in latents)
    level = torch.full((2,), step, device=latent.device)
    return noisy, level, Conditions(degraded=degraded, coarse=coarse, caption=both)


def gaussian_tiled(
    predict: Callable[[slice, slice], Tensor], latent: Tensor, *, tile: int, overlap: int
) -> Tensor:
    """Blend the predictions for the tiles of a latent [1, C, h, w] by Gaussian weights: [1, 2C, h, w]."""
    height, width = latent.shape[-2:]
    if height <= tile and width <= tile:
        return predict(slice(None), slice(None))
    # The weight at a corner is 1e-11 of that at the centre: too small for half precision.
    total = torch.zeros(1, 2 * latent.shape[1], height, width, device=latent.device)
    weight = torch.zeros(height, width, device=latent.device)
    for rows, columns in product(_tile_slices(height, tile, overlap), _tile_slices(width, tile, overlap)):
        predicted = predict(rows, columns)
        down, across = (_gaussian_window(side) for side in predicted.shape[-2:])
        weights = (down[:, None] * across).to(weight)
        total[..., rows, columns] += predicted.float() * weights
        weight[rows, columns] += weights
    return (total / weight).to(latent)


def _tile_slices(length: int, tile: int, overlap: int) -> list[slice]:
    """Cut `length` into tiles with an overlap of `overlap` or more, the last at the end."""
    last = max(length - tile, 0)
    starts = [*range(0, last, tile - overlap), last]
    return [slice(start, min(start + tile, length)) for start in starts]


def _gaussian_window(length: int) -> Tensor:
    """Sample a Gaussian with a standard deviation of a tenth of the tile."""
    position = (torch.arange(length, dtype=torch.float64) - (length - 1) / 2) / length
    return torch.exp(-(position**2) / (2 * 0.01))
