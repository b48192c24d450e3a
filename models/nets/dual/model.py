"""Dual transformers for all-in-one restoration, designed after the abstract of arXiv 2407.01636.

One transformer, the Dformer, estimates the degradation of each frequency band; a second, the Rformer,
restores, with self-attention biased by that estimate. The paper's code, weights and hyper-parameters are not
public: this follows its idea only, and every choice beyond it (Haar subbands, windows, sizes) is this
project's own. No weights exist but those trained here.

    image -> subbands -> Dformer -> degradation of each band, per window (16 x 16 pixels)
             subbands -> Rformer, with attention biased by it -> residual of each band -> image
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    avg_pool2d,
    pad,
    pixel_shuffle,
    pixel_unshuffle,
    relu,
)

from freezeframe.models.nets.state import load_network
from freezeframe.models.store.state_dict import count_keys

from .haar import MULTIPLE as GRID
from .haar import HaarSubbands, dwt2, idwt2

BANDS = 3  # low, mid, high
WINDOW = 4  # side in pixels of the coarse grid, a quarter of the image's size
BAND_CHANNELS = (3, 9, 36)  # of each band on the coarse grid, to which high is unshuffled by 2


@dataclass(frozen=True, slots=True, kw_only=True)
class NetConfig:
    """Width and depth of both transformers."""

    width: int = 32  # channels of each band in the Rformer
    blocks: int = 5  # of the Rformer
    heads: int = 2  # of its attention
    estimate: int = 32  # channels of the degradation estimate of a band
    layers: int = 2  # of the Dformer

    @property
    def multiple(self) -> int:
        """Sides that are multiples of this need no padding. Pixels."""
        return GRID * WINDOW


def matches(state: Mapping[str, Tensor]) -> bool:
    """Whether the weights are those of this network."""
    return "dformer.stems.2.weight" in state and "blocks.0.attention.bias.weight" in state


def load(state: Mapping[str, Tensor]) -> Dual:
    """Load the network with these weights, in float32.

    Raises:
        RuntimeError: A key is missing or unexpected, or a shape differs; the message names it.
    """
    return load_network(lambda: Dual(infer_config(state)), state)


def infer_config(state: Mapping[str, Tensor]) -> NetConfig:
    """Infer the hyper-parameters from the names and shapes of the weights."""
    return NetConfig(
        width=len(state["stems.0.weight"]),
        blocks=count_keys(state, "blocks."),
        heads=len(state["blocks.0.attention.bias.weight"]),
        estimate=len(state["dformer.stems.0.weight"]),
        layers=count_keys(state, "dformer.layers."),
    )


class Dual(nn.Module):
    """Restore sRGB-encoded images of any size, [B, 3, H, W] in [0, 1]; the result is not clamped."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.multiple = config.multiple
        self.dformer = Dformer(config)
        self.stems = nn.ModuleList(nn.Conv2d(part, config.width, 3, padding=1) for part in BAND_CHANNELS)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.heads = nn.ModuleList(nn.Conv2d(config.width, part, 3, padding=1) for part in BAND_CHANNELS)
        for parameter in self.heads.parameters():
            nn.init.zeros_(parameter)

    def forward(self, encoded: Tensor) -> Tensor:
        return encoded + self.correction(encoded)

    def correction(self, encoded: Tensor) -> Tensor:
        """Compute the residual to add to `encoded`, in its number format."""
        height, width = encoded.shape[-2:]
        grid = self.multiple
        padded = pad(encoded, (0, -width % grid, 0, -height % grid), mode="replicate")
        parts = align_subbands(dwt2(padded - 0.5))
        degradation = self.dformer(parts)
        x = torch.cat([stem(part) for stem, part in zip(self.stems, parts, strict=True)], dim=1)
        for block in self.blocks:
            x = block(x, degradation)
        low, mid, high = (head(part) for head, part in zip(self.heads, x.chunk(BANDS, dim=1), strict=True))
        change = idwt2(HaarSubbands(4 * low, mid, pixel_shuffle(high, 2)))
        return change[..., :height, :width]


def align_subbands(bands: HaarSubbands) -> list[Tensor]:
    """Bring the subbands to one grid, a quarter of the size: [B, 3, h, w], [B, 9, h, w], [B, 36, h, w]."""
    return [bands.low / 4, bands.mid, pixel_unshuffle(bands.high, 2)]


class Dformer(nn.Module):
    """Estimate the degradation of each band per window: [B, 3, E, h / 4, w / 4] from `align_subbands`.

    Convolutions act on each band alone; attention then mixes the estimates of the bands of one window.
    """

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        size = config.estimate
        self.stems = nn.ModuleList(nn.Conv2d(part, size, 3, padding=1) for part in BAND_CHANNELS)
        self.looks = nn.ModuleList(nn.Conv2d(size, size, 3, padding=1) for _ in BAND_CHANNELS)
        self.layers = nn.ModuleList(CrossBandAttention(size) for _ in range(config.layers))

    def forward(self, parts: list[Tensor]) -> Tensor:
        pooled = [
            # Rectified before pooling: the amplitude of the details, not their sign.
            avg_pool2d(relu(conv(relu(stem(part)))), WINDOW)
            for stem, conv, part in zip(self.stems, self.looks, parts, strict=True)
        ]
        x = torch.stack(pooled, dim=1).permute(0, 3, 4, 1, 2)
        for layer in self.layers:
            x = layer(x)
        return x.permute(0, 3, 4, 1, 2)


class CrossBandAttention(nn.Module):
    """Transformer layer whose tokens are the bands of one window. [..., 3, E] to the same."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(size), nn.LayerNorm(size)
        self.qkv, self.proj = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.wide, self.back = nn.Linear(size, 2 * size), nn.Linear(2 * size, size)
        with torch.no_grad():
            for last in (self.proj, self.back):
                last.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        x = x + self.proj(weights @ v)
        change: Tensor = self.back(relu(self.wide(self.norm2(x))))
        return x + change


class Block(nn.Module):
    """Window attention across bands, then two 3x3 convolutions. [B, 3 W, h, w] to the same."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        channels = BANDS * config.width
        self.attention = Attention(config)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        with torch.no_grad():
            self.second.weight.mul_(0.1)

    def forward(self, x: Tensor, degradation: Tensor) -> Tensor:
        x = x + self.attention(x, degradation)
        mixed: Tensor = self.second(relu(self.first(x)))
        return x + mixed


class Attention(nn.Module):
    """Degradation-adaptive self-attention: the estimate of a band biases the attention to it.

    Queries are the 3 x 16 band pixels of a window; keys and values are their means over 2 x 2 pixels,
    3 x 4. The estimate of a band is embedded and added to its tokens, and, through one linear output per
    head, added to the logits of its keys.
    """

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.norm = nn.LayerNorm(width)
        self.told = nn.Linear(config.estimate, width)
        self.bias = nn.Linear(config.estimate, config.heads)
        self.query, self.proj = nn.Linear(width, width), nn.Linear(width, width)
        self.answer = nn.Linear(width, 2 * width)
        with torch.no_grad():
            self.proj.weight.mul_(0.1)

    def forward(self, x: Tensor, degradation: Tensor) -> Tensor:
        rows, columns = x.shape[-2] // WINDOW, x.shape[-1] // WINDOW
        window_degradation = degradation.permute(0, 3, 4, 1, 2).flatten(0, 2)  # [windows, band, E]
        tokens = self.norm(window_partition(x)) + self.told(window_degradation)[:, :, None]
        q = self._heads(self.query(tokens))
        k, v = map(self._heads, self.answer(tokens.unflatten(2, (4, 4)).mean(3)).chunk(2, dim=-1))
        weights = (
            q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + self.degradation_bias(window_degradation)
        ).softmax(-1)
        mixed = (weights.to(v.dtype) @ v).transpose(1, 2).flatten(2)
        return window_reverse(self.proj(mixed).unflatten(1, (BANDS, -1)), rows=rows, columns=columns)

    def degradation_bias(self, window_degradation: Tensor) -> Tensor:
        """Compute the bias on the logits of the keys, [windows, heads, 1, 12], from [windows, 3, E]."""
        biases: Tensor = self.bias(window_degradation).transpose(1, 2)
        return biases.repeat_interleave(4, dim=-1)[:, :, None]

    def _heads(self, tokens: Tensor) -> Tensor:
        """[windows, 3, n, W] to [windows, heads, 3 n, W / heads]."""
        flat = tokens.flatten(1, 2)
        return flat.view(*flat.shape[:2], self.heads, -1).transpose(1, 2)


def window_partition(x: Tensor) -> Tensor:
    """Cut [B, 3 W, h, w] into windows by band: [B h/4 w/4, 3, 16, W], each 2 x 2 pixels consecutive."""
    height, width = x.shape[-2:]
    tiles = x.reshape(len(x), BANDS, -1, height // WINDOW, 2, 2, width // WINDOW, 2, 2)
    return tiles.permute(0, 3, 6, 1, 4, 7, 5, 8, 2).flatten(4, 7).flatten(0, 2)


def window_reverse(tokens: Tensor, *, rows: int, columns: int) -> Tensor:
    """Invert `window_partition`: [B rows columns, 3, 16, W] to [B, 3 W, 4 rows, 4 columns]."""
    tiles = tokens.reshape(-1, rows, columns, BANDS, 2, 2, 2, 2, tokens.shape[-1])
    return tiles.permute(0, 3, 8, 1, 4, 6, 2, 5, 7).flatten(6, 8).flatten(3, 5).flatten(1, 2)
