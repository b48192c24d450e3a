"""How HAIR tells what happened to a picture: features at an eighth of its size to one vector.

A convolutional encoder of the kind that latent diffusion brought up (Rombach et al. 2022, arXiv 2112.10752):
residual blocks at three sizes, attention between all places of the smallest, the mean over places.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, silu

from freezeframe.models.nets.varformer.tokenizer import Downsample

GROUPS = 24  # of three channels or more that share a norm, where there are as many
SIZES = 3  # each half of the one before
BLOCKS = 3  # at each size
MIN_SIDE = 4  # a picture's features have at least so many pixels on a side, to be halved twice


class DegradationEncoder(nn.Module):
    """[B, C, H, W] features of sides `MIN_SIDE` or more to [B, described]."""

    def __init__(self, channels: int, *, width: int, embedding_dim: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(channels, width, 3, padding=1)
        self.down = nn.ModuleList(EncoderLevel(width, halves=i < SIZES - 1) for i in range(SIZES))
        self.mid = Bottleneck(width)
        self.norm_out = _norm(width)
        self.conv_out = nn.Conv2d(width, embedding_dim, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        x = self.conv_in(features)
        for size in self.down:
            x = size(x)
        features_out: Tensor = self.conv_out(silu(self.norm_out(self.mid(x))))
        return features_out.mean((2, 3))


class EncoderLevel(nn.Module):
    """Residual blocks, and the way to half the size. [B, C, H, W] to the same or half."""

    def __init__(self, width: int, *, halves: bool) -> None:
        super().__init__()
        self.block = nn.Sequential(*(Residual(width) for _ in range(BLOCKS)))
        if halves:
            self.downsample = Downsample(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(x)
        return self.downsample(x) if hasattr(self, "downsample") else x


class Bottleneck(nn.Module):
    """A block, attention, a block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.block_1 = Residual(width)
        self.attn_1 = Attention(width)
        self.block_2 = Residual(width)

    def forward(self, x: Tensor) -> Tensor:
        x_out: Tensor = self.block_2(self.attn_1(self.block_1(x)))
        return x_out


class Residual(nn.Module):
    """x + conv(swish(norm(conv(swish(norm(x))))))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = _norm(width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = _norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.conv2(silu(self.norm2(self.conv1(silu(self.norm1(x))))))
        return x + change


class Attention(nn.Module):
    """x + what each place gathers from all others, one head over all channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = _norm(width)
        self.q = nn.Conv2d(width, width, 1)
        self.k = nn.Conv2d(width, width, 1)
        self.v = nn.Conv2d(width, width, 1)
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        normalized = self.norm(x)
        query, key, value = (each(normalized).flatten(2).transpose(1, 2) for each in (self.q, self.k, self.v))
        attended = scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(x.shape)
        change: Tensor = self.proj_out(attended)
        return x + change


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(GROUPS, width // 3), width, eps=1e-6)
