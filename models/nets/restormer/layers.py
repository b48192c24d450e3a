"""Transformer blocks of Restormer (Zamir et al. 2022, arXiv 2111.09881) and of networks built on it.

The kernels of a block are arguments: Restormer stores them, HAIR generates them for every image. Modules are
named as in the published checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, gelu, layer_norm, normalize


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockShape:
    """Sizes of one block."""

    channels: int
    heads: int
    hidden: int  # channels after the gate
    centred: bool = True  # whether norms subtract the mean and add a bias ('WithBias'), or neither


@dataclass(frozen=True, slots=True)
class Kernels:
    """The six convolutions of a block, shared [out, in, k, k] or one per image [B, out, in, k, k]."""

    qkv: Tensor  # 3C, C, 1, 1
    qkv_dwconv: Tensor  # 3C, 1, 3, 3
    attn_out: Tensor  # C, C, 1, 1
    ffn_in: Tensor  # 2 hidden, C, 1, 1
    ffn_dwconv: Tensor  # 2 hidden, 1, 3, 3
    ffn_out: Tensor  # C, hidden, 1, 1


def kernel_shapes(shape: BlockShape) -> tuple[tuple[int, int, int, int], ...]:
    """Return the shapes of a block's kernels, in the order of `Kernels`."""
    c, h = shape.channels, shape.hidden
    attention = (3 * c, c, 1, 1), (3 * c, 1, 3, 3), (c, c, 1, 1)
    return *attention, (2 * h, c, 1, 1), (2 * h, 1, 3, 3), (c, h, 1, 1)


class BlockParams(Protocol):
    """Parameters of a block beside its kernels: two norms and the temperature of its attention."""

    norm1: ChannelNorm
    norm2: ChannelNorm

    @property
    def attn(self) -> Attention | Temperature: ...


def apply_block(x: Tensor, params: BlockParams, kernels: Kernels) -> Tensor:
    """Add channel attention, then a gated feed-forward network, each with a residual. [B, C, H, W]."""
    x = x + attend(params.norm1(x), kernels, temperature=params.attn.temperature)
    return x + gated_feed_forward(params.norm2(x), kernels)


def attend(x: Tensor, kernels: Kernels, *, temperature: Tensor) -> Tensor:
    """Apply self-attention across channels (MDTA).

    The similarity of two channels is their cosine over all pixels. Each output pixel hence depends on the
    whole image, and a tile is restored slightly differently from the image. Cost is linear in pixels.

    Args:
        x: [B, C, H, W].
        kernels: For C input and output channels.
        temperature: Factor on the cosines before the softmax. [heads, 1, 1].
    """
    batch, _, height, width = x.shape
    mixed = convolve(convolve(x, kernels.qkv), kernels.qkv_dwconv)
    query, key, value = mixed.reshape(batch, 3, temperature.shape[0], -1, height * width).unbind(1)
    cosines = normalize(query, dim=-1) @ normalize(key, dim=-1).transpose(-2, -1)
    attended = (cosines * temperature).softmax(-1).to(value) @ value
    return convolve(attended.reshape(x.shape), kernels.attn_out)


def gated_feed_forward(x: Tensor, kernels: Kernels) -> Tensor:
    """Apply a depthwise convolution between linear layers, half of the channels gating the rest (GDFN)."""
    gate, value = convolve(convolve(x, kernels.ffn_in), kernels.ffn_dwconv).chunk(2, dim=1)
    return convolve(gelu(gate) * value, kernels.ffn_out)


def convolve(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolve with zero padding that keeps the size; kernels with one input channel are depthwise.

    Args:
        x: [B, C, H, W].
        kernel: Odd k. [out, in, k, k], or one per image: [B, out, in, k, k].
    """
    in_channels, side = kernel.shape[-3], kernel.shape[-1]
    groups = x.shape[1] // in_channels
    if kernel.ndim == 4:
        return conv2d(x, kernel, padding=side // 2, groups=groups)
    # The batch becomes groups of channels of a single image, each with its own kernel.
    batch, (height, width) = len(x), x.shape[-2:]
    stacked = x.reshape(1, -1, height, width)
    convolved = conv2d(stacked, kernel.flatten(0, 1), padding=side // 2, groups=batch * groups)
    return convolved.reshape(batch, -1, height, width)


class Block(nn.Module):
    """Transformer block with stored kernels. [B, C, H, W] to the same."""

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(shape.channels, centred=shape.centred)
        self.attn = Attention(shape)
        self.norm2 = ChannelNorm(shape.channels, centred=shape.centred)
        self.ffn = GatedFeedForward(shape)

    def forward(self, x: Tensor) -> Tensor:
        return apply_block(x, self, self.kernels())

    def kernels(self) -> Kernels:
        return Kernels(
            qkv=self.attn.qkv.weight,
            qkv_dwconv=self.attn.qkv_dwconv.weight,
            attn_out=self.attn.project_out.weight,
            ffn_in=self.ffn.project_in.weight,
            ffn_dwconv=self.ffn.dwconv.weight,
            ffn_out=self.ffn.project_out.weight,
        )


class Attention(nn.Module):
    """Parameters of `attend`."""

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        c = shape.channels
        self.temperature = nn.Parameter(torch.ones(shape.heads, 1, 1))
        self.qkv = nn.Conv2d(c, 3 * c, 1, bias=False)
        self.qkv_dwconv = nn.Conv2d(3 * c, 3 * c, 3, padding=1, groups=3 * c, bias=False)
        self.project_out = nn.Conv2d(c, c, 1, bias=False)


class GatedFeedForward(nn.Module):
    """Parameters of `gated_feed_forward`."""

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        c, h = shape.channels, shape.hidden
        self.project_in = nn.Conv2d(c, 2 * h, 1, bias=False)
        self.dwconv = nn.Conv2d(2 * h, 2 * h, 3, padding=1, groups=2 * h, bias=False)
        self.project_out = nn.Conv2d(h, c, 1, bias=False)


class Temperature(nn.Module):
    """Parameters of `attend` beside the kernels."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each pixel. [B, C, H, W] to the same.

    Not centred, it divides by the standard deviation without subtracting the mean, and has no bias: the
    network then scales with its input (Mohan et al. 2020, arXiv 1906.05478). Restormer denoises with it.
    """

    def __init__(self, channels: int, *, centred: bool = True) -> None:
        super().__init__()
        values = {"weight": torch.ones(channels)} | ({"bias": torch.zeros(channels)} if centred else {})
        self.body = nn.ParameterDict(values)

    def forward(self, x: Tensor) -> Tensor:
        # In channels_last memory both permutations are free.
        pixels, weight = x.permute(0, 2, 3, 1), self.body["weight"]
        if "bias" in self.body:
            return layer_norm(pixels, weight.shape, weight, self.body["bias"], eps=1e-5).permute(0, 3, 1, 2)
        deviation = (pixels.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
        scaled: Tensor = pixels / deviation * weight
        return scaled.permute(0, 3, 1, 2)
