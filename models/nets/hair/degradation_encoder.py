"""HAIR's degradation encoder: image features at an eighth of the size to one embedding vector.

A convolutional encoder like those of latent diffusion (Rombach et al. 2022, arXiv 2112.10752): residual
blocks at three scales, attention over all pixels of the smallest, then the mean over pixels.
"""

from __future__ import annotations

import math
from functools import partial

from torch import Tensor, nn
from torch.nn.functional import silu

from freezeframe.models.nets.blocks.autoencoder import (
    Bottleneck,
    Downsample,
    Residual,
    attend_pixels,
    group_norm,
    pixels_to_tokens,
)

GROUPS = 24  # largest number of norm groups; each has three channels or more
SCALES = 3  # each half the size of the one before
BLOCKS = 3  # residual blocks per scale
MIN_SIDE = 4  # smallest side of the features, which are halved twice. Pixels


class DegradationEncoder(nn.Module):
    """Map features [B, C, H, W], sides `MIN_SIDE` or more, to embeddings [B, embedding_dim]."""

    def __init__(self, channels: int, *, width: int, embedding_dim: int) -> None:
        super().__init__()
        groups = norm_groups(width)
        self.conv_in = nn.Conv2d(channels, width, 3, padding=1)
        self.down = nn.ModuleList(EncoderLevel(width, halves=i < SCALES - 1) for i in range(SCALES))
        self.mid = Bottleneck(width, groups=groups, attention=partial(Attention, groups=groups))
        self.norm_out = group_norm(width, groups)
        self.conv_out = nn.Conv2d(width, embedding_dim, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        x = self.conv_in(features)
        for level in self.down:
            x = level(x)
        embeddings: Tensor = self.conv_out(silu(self.norm_out(self.mid(x))))
        return embeddings.mean((2, 3))


class EncoderLevel(nn.Module):
    """Residual blocks at one scale, then a downsampling but for the last scale."""

    def __init__(self, width: int, *, halves: bool) -> None:
        super().__init__()
        groups = norm_groups(width)
        self.block = nn.Sequential(*(Residual(width, width, groups=groups) for _ in range(BLOCKS)))
        if halves:
            self.downsample = Downsample(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(x)
        return self.downsample(x) if hasattr(self, "downsample") else x


class Attention(nn.Module):
    """Single-head self-attention over all pixels, with a residual. [B, C, H, W] to the same."""

    def __init__(self, width: int, *, groups: int) -> None:
        super().__init__()
        self.norm = group_norm(width, groups)
        self.q = nn.Conv2d(width, width, 1)
        self.k = nn.Conv2d(width, width, 1)
        self.v = nn.Conv2d(width, width, 1)
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        normalized = self.norm(x)
        query, key, value = (pixels_to_tokens(conv(normalized)) for conv in (self.q, self.k, self.v))
        attended = attend_pixels(query, key, value, size=(x.shape[2], x.shape[3]))
        change: Tensor = self.proj_out(attended)
        return x + change


def norm_groups(width: int) -> int:
    """Count the norm groups of `width` channels: `GROUPS`, or fewer where three channels each need it."""
    return math.gcd(GROUPS, width // 3)
