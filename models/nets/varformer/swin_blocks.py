"""Swin groups (Liang et al. 2021, SwinIR, arXiv 2108.10257) in VarFormer's guides, with windows of 4 pixels.

Each group is two Swin layers, the second with windows shifted by half a window, then a convolution and a
residual around all of them. The published weights store the masks of one image size: a group has that size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from freezeframe.models.nets.blocks.window_attention import (
    Layer,
    LayerShape,
    full_shift_mask,
    relative_positions,
    shift_masks,
)

WINDOW = 4  # pixels
EXPANSION = 4  # hidden channels of the MLP over its input channels


class Group(nn.Module):
    """[B, C, side, side] to the same."""

    def __init__(self, width: int, *, heads: int, side: int) -> None:
        super().__init__()
        self.shifts = side > WINDOW
        shape = LayerShape(channels=width, heads=heads, window=WINDOW, hidden=EXPANSION * width)
        layers = [Layer(shape, attend=attend) for _ in range(2)]
        # The two buffers follow from the sizes; they are here because the files store them.
        for layer in layers:
            layer.attn.register_buffer("relative_position_index", relative_positions(WINDOW))
        if self.shifts:
            layers[1].register_buffer("attn_mask", full_shift_mask((side, side), WINDOW))
        self.residual_group = nn.ModuleDict({"blocks": nn.Sequential(*layers)})
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.patch_embed = EmptyEmbedding(width)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.residual_group["blocks"].children()
        shift = shift_masks((x.shape[2], x.shape[3]), WINDOW, device=x.device) if self.shifts else None
        layers = second(first(x.permute(0, 2, 3, 1)), shift)
        change: Tensor = self.conv(layers.permute(0, 3, 1, 2))
        return x + change


class EmptyEmbedding(nn.Module):
    """A convolution with zero input channels that is never called: the published weights store its kernel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Module()
        self.proj.register_parameter("weight", nn.Parameter(torch.empty(width, 0, WINDOW, WINDOW)))
        self.proj.register_parameter("bias", nn.Parameter(torch.zeros(width)))


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Attention over the pixels of each window by torch's own function. [N, heads, P, d]."""
    # A fifth axis selects the same implementation as [B, N, heads, P, d], and so the same rounding.
    return scaled_dot_product_attention(query[None], key[None], value[None], attn_mask=bias)[0]
