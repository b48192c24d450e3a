"""Two-level orthonormal Haar wavelet transform and its inverse.

Orthonormal: the energies of the subbands add up to that of the image, and white noise keeps its variance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

MULTIPLE = 4  # of which two levels take sides. Pixels


@dataclass(frozen=True, slots=True)
class HaarSubbands:
    """Subbands of an image [B, C, H, W], H and W multiples of 4."""

    low: Tensor  # [B, C, H / 4, W / 4] means of 4 x 4 pixels, times 4
    mid: Tensor  # [B, 3 C, H / 4, W / 4] details of periods from 4 to 8 pixels
    high: Tensor  # [B, 3 C, H / 2, W / 2] details of periods up to 4 pixels


def dwt2(image: Tensor) -> HaarSubbands:
    """Transform an image [B, C, H, W]."""
    half, high = _analyze(image)
    low, mid = _analyze(half)
    return HaarSubbands(low, mid, high)


def idwt2(bands: HaarSubbands) -> Tensor:
    """Invert `dwt2`."""
    return _synthesize(_synthesize(bands.low, bands.mid), bands.high)


def _analyze(image: Tensor) -> tuple[Tensor, Tensor]:
    """Return approximation [B, C, H / 2, W / 2] and details [B, 3 C, H / 2, W / 2] of 2 x 2 pixels."""
    batch, channels, height, width = image.shape
    quads = pixel_unshuffle(image, 2).view(batch, channels, 4, height // 2, width // 2)
    subbands = torch.stack(_butterfly(*quads.unbind(2)), dim=1)
    return subbands[:, 0], subbands[:, 1:].flatten(1, 2)


def _synthesize(means: Tensor, details: Tensor) -> Tensor:
    quads = _butterfly(means, *details.chunk(3, dim=1))
    return pixel_shuffle(torch.stack(quads, dim=2).flatten(1, 2), 2)


def _butterfly(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return approximation, horizontal, vertical and diagonal detail of 2 x 2 pixels; its own inverse."""
    upper, lower, left, right = a + b, c + d, a - b, c - d
    return (upper + lower) / 2, (left + right) / 2, (upper - lower) / 2, (left - right) / 2
