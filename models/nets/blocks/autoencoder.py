"""Convolutional blocks of VQGAN's encoder and decoder (Esser et al. 2021, arXiv 2012.09841).

Latent diffusion, VAR's tokeniser and HAIR's degradation encoder are built from them. Modules are named as in
the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, scaled_dot_product_attention, silu


def group_norm(width: int, groups: int) -> nn.GroupNorm:
    """Build a group norm with the epsilon of the published networks."""
    return nn.GroupNorm(groups, width, eps=1e-6)


class Residual(nn.Module):
    """x + conv(swish(norm(conv(swish(norm(x)))))); x passes a 1 x 1 convolution where the width changes.

    Maps [B, first, H, W] to [B, width, H, W].
    """

    def __init__(self, first: int, width: int, *, groups: int) -> None:
        super().__init__()
        self.norm1 = group_norm(first, groups)
        self.conv1 = nn.Conv2d(first, width, 3, padding=1)
        self.norm2 = group_norm(width, groups)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(first, width, 1) if first != width else None

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.conv2(silu(self.norm2(self.conv1(silu(self.norm1(x))))))
        return change + (x if self.nin_shortcut is None else self.nin_shortcut(x))


class Bottleneck(nn.Module):
    """A residual block, attention over all pixels, a residual block. [B, C, H, W] to the same."""

    def __init__(self, width: int, *, groups: int, attention: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.block_1 = Residual(width, width, groups=groups)
        self.attn_1 = attention(width)
        self.block_2 = Residual(width, width, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = self.block_2(self.attn_1(self.block_1(x)))
        return changed


def pixels_to_tokens(x: Tensor) -> Tensor:
    """Reshape [B, C, H, W] to [B, H W, C], pixels in row-major order."""
    return x.flatten(2).transpose(1, 2)


def attend_pixels(query: Tensor, key: Tensor, value: Tensor, *, size: tuple[int, int]) -> Tensor:
    """Apply single-head attention to tokens [B, H W, C] and return them as an image [B, C, H, W]."""
    attended = scaled_dot_product_attention(query, key, value).transpose(1, 2)
    return attended.reshape(*attended.shape[:2], *size)


class Downsample(nn.Module):
    """3 x 3 convolution of stride 2, zero-padded at the right and lower border only (as published)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        halved: Tensor = self.conv(pad(x, (0, 1, 0, 1)))
        return halved


class Upsample(nn.Module):
    """Nearest-neighbour upsampling by 2, then a 3 x 3 convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        doubled: Tensor = self.conv(interpolate(x, scale_factor=2.0, mode="nearest"))
        return doubled
