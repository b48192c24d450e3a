"""Swin groups (Liang et al. 2021, SwinIR, arXiv 2108.10257) as VarFormer's guides use them: windows of 4.

Each group is two layers, the second with its windows shifted by half a window, then a convolution and the
way around both. The published weights hold the masks of one picture size, so a group is built for one size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

WINDOW = 4  # pixels
HIDDEN = 4  # channels inside the layers per token, per channel outside
MASK_LOGIT = -100.0  # what a mask adds to the logits of pixels that are no neighbours


class Group(nn.Module):
    """[B, C, side, side] both ways."""

    def __init__(self, width: int, *, heads: int, side: int) -> None:
        super().__init__()
        shifts = (0, WINDOW // 2 if side > WINDOW else 0)
        layers = nn.Sequential(*(Layer(width, heads=heads, side=side, shift=shift) for shift in shifts))
        self.residual_group = nn.ModuleDict({"blocks": layers})
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.patch_embed = EmptyEmbedding(width)

    def forward(self, x: Tensor) -> Tensor:
        layers = self.residual_group["blocks"](x.permute(0, 2, 3, 1))
        change: Tensor = self.conv(layers.permute(0, 3, 1, 2))
        return x + change


class EmptyEmbedding(nn.Module):
    """A convolution from no channels at all, never called: the published weights hold its empty kernel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Module()
        self.proj.register_parameter("weight", nn.Parameter(torch.empty(width, 0, WINDOW, WINDOW)))
        self.proj.register_parameter("bias", nn.Parameter(torch.zeros(width)))


class Layer(nn.Module):
    """Attention inside windows, then two layers per pixel. [B, side, side, C] both ways."""

    attn_mask: Tensor | None

    def __init__(self, width: int, *, heads: int, side: int, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads=heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width)
        self.register_buffer("attn_mask", shift_mask(side, shift) if shift else None)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        shifted = self.norm1(x).roll((-self.shift, -self.shift), (1, 2))
        attended = window_reverse(self.attn(window_partition(shifted), self.attn_mask), (height, width))
        x = x + attended.roll((self.shift, self.shift), (1, 2))
        changed: Tensor = self.mlp(self.norm2(x))
        return x + changed


class Mlp(nn.Module):
    """Two layers at each pixel, wide between. [..., C] both ways."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, HIDDEN * width)
        self.fc2 = nn.Linear(HIDDEN * width, width)

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = self.fc2(gelu(self.fc1(x)))
        return changed


class WindowAttention(nn.Module):
    """Each pixel gathers from its window, by likeness and by a learned weight for where the other lies."""

    relative_position_index: Tensor

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * WINDOW - 1) ** 2, heads))
        self.register_buffer("relative_position_index", relative_positions())

    def forward(self, windows: Tensor, mask: Tensor | None) -> Tensor:
        """[B, N, 16, C] both ways; `mask` [N, 16, 16] is added to the logits."""
        parts = self.qkv(windows).reshape(*windows.shape[:3], 3, self.heads, -1)
        query, key, value = parts.permute(3, 0, 1, 4, 2, 5)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        if mask is not None:
            bias = bias + mask[:, None]
        gathered = scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query))
        out: Tensor = self.proj(gathered.transpose(2, 3).flatten(3))
        return out


def relative_positions() -> Tensor:
    """The row of the bias table for each pair of pixels of a window. [16, 16]."""
    rows, columns = torch.meshgrid(torch.arange(WINDOW), torch.arange(WINDOW), indexing="ij")
    down, right = (at.flatten()[:, None] - at.flatten() + WINDOW - 1 for at in (rows, columns))
    return down * (2 * WINDOW - 1) + right


def window_partition(x: Tensor) -> Tensor:
    """[B, H, W, C] to [B, N, 16, C], windows and their pixels in rows."""
    batch, height, width, channels = x.shape
    tiles = x.reshape(batch, height // WINDOW, WINDOW, width // WINDOW, WINDOW, channels)
    return tiles.transpose(2, 3).reshape(batch, -1, WINDOW * WINDOW, channels)


def window_reverse(windows: Tensor, size: tuple[int, int]) -> Tensor:
    """The inverse of `window_partition`."""
    (batch, _, _, channels), (height, width) = windows.shape, size
    tiles = windows.reshape(batch, height // WINDOW, width // WINDOW, WINDOW, WINDOW, channels)
    return tiles.transpose(2, 3).reshape(batch, height, width, channels)


def shift_mask(side: int, shift: int) -> Tensor:
    """Keeps apart the pixels of a window that only the cyclic shift brought together. [N, 16, 16]."""
    at = torch.arange(side)
    part = (at >= side - WINDOW).int() + (at >= side - shift).int()
    region = window_partition((3 * part[:, None] + part)[None, ..., None])[0, ..., 0]
    separate: Tensor = region[:, :, None] != region[:, None]
    return separate * MASK_LOGIT
