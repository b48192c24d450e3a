"""A picture as frequency bands and back, without loss: two levels of the orthonormal Haar wavelet.

Orthonormal means that the squares of all bands sum to the squares of the picture, and that the way back is
the way there: what a degradation does to each band can be read off each band.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

MULTIPLE = 4  # sides that two levels take. Pixels


@dataclass(frozen=True, slots=True)
class HaarSubbands:
    """A picture [B, C, H, W] by frequency, H and W multiples of 4."""

    low: Tensor  # [B, C, H / 4, W / 4] means of 4 x 4 pixels, times 4
    mid: Tensor  # [B, 3 C, H / 4, W / 4] details of periods from 4 to 8 pixels
    high: Tensor  # [B, 3 C, H / 2, W / 2] details of periods up to 4 pixels


def dwt2(image: Tensor) -> HaarSubbands:
    """The bands of [B, C, H, W]."""
    half, high = _analyze(image)
    low, mid = _analyze(half)
    return HaarSubbands(low, mid, high)


def idwt2(bands: HaarSubbands) -> Tensor:
    """The picture [B, C, H, W] that has these bands."""
    return _synthesize(_synthesize(bands.low, bands.mid), bands.high)


def _analyze(image: Tensor) -> tuple[Tensor, Tensor]:
    """Means [B, C, H / 2, W / 2] and differences [B, 3 C, H / 2, W / 2] of squares of four pixels."""
    batch, channels, height, width = image.shape
    quads = pixel_unshuffle(image, 2).view(batch, channels, 4, height // 2, width // 2)
    subbands = torch.stack(_butterfly(*quads.unbind(2)), dim=1)
    return subbands[:, 0], subbands[:, 1:].flatten(1, 2)


def _synthesize(means: Tensor, details: Tensor) -> Tensor:
    quads = _butterfly(means, *details.chunk(3, dim=1))
    return pixel_shuffle(torch.stack(quads, dim=2).flatten(1, 2), 2)


def _butterfly(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Half the mean, the step across, down and diagonally; its own inverse."""
    upper, lower, left, right = a + b, c + d, a - b, c - d
    return (upper + lower) / 2, (left + right) / 2, (upper - lower) / 2, (left - right) / 2
