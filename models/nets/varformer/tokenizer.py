"""Encoder and decoder of VAR's tokeniser (arXiv 2012.09841 and 2404.02905).

The encoder halves the image from level to level, the decoder doubles it. Both return the features of each
level, finest first, and let a function replace them on the way: VarFormer guides its trained copies so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import silu

from freezeframe.models.nets.blocks.autoencoder import (
    Bottleneck,
    Downsample,
    Residual,
    Upsample,
    attend_pixels,
    group_norm,
    pixels_to_tokens,
)

GROUPS = 32  # of channels per norm

Change = Callable[[int, Tensor], Tensor]
"""Maps a level and its features [B, C, H, W] to the features that replace them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerConfig:
    """Channels of the tokeniser: `width` times `multiples` at each level, `latent` at the bottom."""

    width: int
    multiples: tuple[int, ...]
    blocks: int  # per level of the encoder
    latent: int

    @property
    def channels(self) -> tuple[int, ...]:
        return tuple(self.width * multiple for multiple in self.multiples)

    @property
    def levels(self) -> int:
        return len(self.multiples)

    @property
    def reduction(self) -> int:
        """Side of the image over that of the latent."""
        return int(2 ** (self.levels - 1))


def keep(level: int, x: Tensor) -> Tensor:
    """Return the features unchanged."""
    del level
    return x


class Encoder(nn.Module):
    """Map images [B, 3, H, W] in [-1, 1] to latents [B, latent, H / 16, W / 16]."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        channels = config.channels
        self.conv_in = nn.Conv2d(3, config.width, 3, padding=1)
        inputs = (config.width, *channels)
        self.down = nn.ModuleList(
            Level((inputs[i], channels[i]), blocks=config.blocks, attends=i == config.levels - 1)
            for i in range(config.levels)
        )
        for level, width in zip(self.down[:-1], channels[:-1], strict=True):
            level.add_module("downsample", Downsample(width))
        self.mid = Bottleneck(channels[-1], groups=GROUPS, attention=SelfAttention)
        self.norm_out = group_norm(channels[-1], GROUPS)
        self.conv_out = nn.Conv2d(channels[-1], config.latent, 3, padding=1)

    def forward(self, image: Tensor, *, change: Change = keep) -> tuple[Tensor, list[Tensor]]:
        """Return the latent, and the features of every level before downsampling, finest first."""
        x = self.conv_in(image)
        features: list[Tensor] = []
        for i, level in enumerate(self.down):
            x = change(i, level(x))
            features.append(x)
            if i < len(self.down) - 1:
                x = level.get_submodule("downsample")(x)
        return self.conv_out(silu(self.norm_out(self.mid(x)))), features


class Decoder(nn.Module):
    """Map latents [B, latent, h, w] to images [B, 3, 16h, 16w], nominally in [-1, 1]."""

    def __init__(self, config: TokenizerConfig, *, blocks: int) -> None:
        super().__init__()
        channels = config.channels
        self.conv_in = nn.Conv2d(config.latent, channels[-1], 3, padding=1)
        self.mid = Bottleneck(channels[-1], groups=GROUPS, attention=SelfAttention)
        inputs = (*channels[1:], channels[-1])
        self.up = nn.ModuleList(
            Level((inputs[i], channels[i]), blocks=blocks, attends=i == config.levels - 1)
            for i in range(config.levels)
        )
        for level, width in zip(self.up[1:], channels[1:], strict=True):
            level.add_module("upsample", Upsample(width))
        self.norm_out = group_norm(channels[0], GROUPS)
        self.conv_out = nn.Conv2d(channels[0], 3, 3, padding=1)

    def forward(self, latent: Tensor, *, change: Change = keep) -> tuple[Tensor, list[Tensor]]:
        """Return the image, and the features of every level before upsampling, finest first."""
        x = self.mid(self.conv_in(latent))
        features: list[Tensor] = []
        for i in reversed(range(len(self.up))):
            x = change(i, self.up[i](x))
            features.insert(0, x)
            if i:
                x = self.up[i].get_submodule("upsample")(x)
        return self.conv_out(silu(self.norm_out(x))), features


class Level(nn.Module):
    """Residual blocks at one scale, each followed by attention if `attends`.

    Maps [B, C, H, W] to the same size with `widths[1]` channels.
    """

    def __init__(self, widths: tuple[int, int], *, blocks: int, attends: bool) -> None:
        super().__init__()
        first, width = widths
        self.block = nn.ModuleList(
            Residual(width if j else first, width, groups=GROUPS) for j in range(blocks)
        )
        self.attn = nn.ModuleList(SelfAttention(width) for _ in range(blocks if attends else 0))

    def forward(self, x: Tensor) -> Tensor:
        for j, block in enumerate(self.block):
            x = block(x)
            if len(self.attn):
                x = self.attn[j](x)
        return x


class SelfAttention(nn.Module):
    """Single-head self-attention over all pixels, with a residual. [B, C, H, W] to the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = group_norm(width, GROUPS)
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = pixels_to_tokens(self.qkv(self.norm(x))).chunk(3, dim=2)
        attended = attend_pixels(query, key, value, size=(x.shape[2], x.shape[3]))
        change: Tensor = self.proj_out(attended)
        return x + change
