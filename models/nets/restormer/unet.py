"""The U-net of Restormer and HAIR, without the blocks of its decoder.

The encoder doubles the channels as it halves the sides; the decoder concatenates the encoder's features of
the same scale (skip connections).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .layers import Block, BlockShape

Stage = Callable[[Tensor], Tensor]
"""Several blocks at one scale. [B, C, H, W] to the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetConfig:
    """Sizes of the network: at least two scales, and heads that divide the channels of each."""

    dim: int = 48  # channels at full size, doubled at each smaller scale
    blocks: tuple[int, ...] = (4, 6, 6, 8)  # per scale, the smallest last; the decoder has as many
    refinement: int = 4  # blocks after the decoder
    heads: tuple[int, ...] = (1, 2, 4, 8)  # of the attention at each scale
    expansion: float = 2.66  # hidden channels of the feed-forward network over its input, rounded down
    channels: int = 3  # of the image: RGB, or 1 for grey
    centred: bool = True  # see `layers.ChannelNorm`
    reduce_latent: bool = False  # whether the latent's channels are halved before the decoder (PromptIR)

    def __post_init__(self) -> None:
        if len(self.blocks) != len(self.heads) or len(self.blocks) < 2 + self.reduce_latent:
            raise ValueError(
                f"blocks {self.blocks}, heads {self.heads}: give one of each per scale, for 2 scales or more"
            )
        if any(self.dim * 2**i % heads for i, heads in enumerate(self.heads)):
            raise ValueError(f"dim {self.dim}, heads {self.heads}: heads must divide the channels of a scale")

    @property
    def scales(self) -> int:
        return len(self.blocks)

    @property
    def multiple(self) -> int:
        """Sides that are multiples of this need no padding. Pixels."""
        return int(2 ** (self.scales - 1))

    def shape(self, scale: int, *, width: int = 1) -> BlockShape:
        """Sizes of the blocks at `scale`, 0 being full size, `width` times as wide as in the encoder."""
        channels = self.dim * 2**scale * width
        hidden = int(channels * self.expansion)
        return BlockShape(channels=channels, heads=self.heads[scale], hidden=hidden, centred=self.centred)


def decoder_stages(config: NetConfig) -> dict[str, tuple[BlockShape, int]]:
    """List shape and number of the blocks of each decoder stage, by name, from the latent on.

    At full size the blocks are twice as wide as in the encoder: no convolution reduces the concatenation.
    """
    last = config.scales - 1
    stages = {"latent": (config.shape(last), config.blocks[last])}
    for scale in range(last - 1, -1, -1):
        shape = config.shape(scale, width=2 if scale == 0 else 1)
        stages[f"decoder_level{scale + 1}"] = (shape, config.blocks[scale])
    return stages | {"refinement": (config.shape(0, width=2), config.refinement)}


def build_unet(config: NetConfig) -> dict[str, nn.Module]:
    """Build every module outside of `decoder_stages`, by its published name."""
    dim, top = config.dim, config.scales
    modules: dict[str, nn.Module] = {"patch_embed": nn.ModuleDict({"proj": _conv(config.channels, dim)})}
    for i in range(1, top):
        modules[f"encoder_level{i}"] = blocks(config.shape(i - 1), config.blocks[i - 1])
        modules[f"down{i}_{i + 1}"] = _halving(dim * 2 ** (i - 1))
    channels = dim * 2 ** (top - 1)
    if config.reduce_latent:
        modules["reduce_latent"] = nn.Conv2d(channels, channels // 2, 3, padding=1)
        channels //= 2
    for i in range(top - 1, 0, -1):
        modules[f"up{i + 1}_{i}"] = _doubling(channels)
        concatenated, channels = channels // 2 + dim * 2 ** (i - 1), dim * 2 ** (i - 1)
        if i > 1:
            modules[f"reduce_chan_level{i}"] = nn.Conv2d(concatenated, channels, 1, bias=False)
    return modules | {"output": _conv(2 * dim, config.channels)}


def blocks(shape: BlockShape, count: int) -> nn.Sequential:
    """Chain `count` blocks of one shape. [B, C, H, W] to the same."""
    return nn.Sequential(*(Block(shape) for _ in range(count)))


def encode(net: nn.Module, encoded: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return the features at the smallest scale, and those of each scale above it, full size first."""
    x: Tensor = net.get_submodule("patch_embed.proj")(encoded)
    skips: list[Tensor] = []
    while hasattr(net, f"encoder_level{len(skips) + 1}"):
        skips.append(net.get_submodule(f"encoder_level{len(skips) + 1}")(x))
        x = net.get_submodule(f"down{len(skips)}_{len(skips) + 1}.body")(skips[-1])
    return x, skips


def decode(net: nn.Module, x: Tensor, skips: list[Tensor], stages: Mapping[str, Stage]) -> Tensor:
    """Compute the residual [B, channels, H, W] from the latent `x` and the skip connections."""
    x = stages["latent"](x)
    if hasattr(net, "reduce_latent"):
        x = net.get_submodule("reduce_latent")(x)
    for i in range(len(skips), 0, -1):
        x = torch.cat([net.get_submodule(f"up{i + 1}_{i}.body")(x), skips[i - 1]], 1)
        if i > 1:
            x = net.get_submodule(f"reduce_chan_level{i}")(x)
        x = stages[f"decoder_level{i}"](x)
    change: Tensor = net.get_submodule("output")(stages["refinement"](x))
    return change


def _conv(channels: int, out: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out, 3, padding=1, bias=False)


def _halving(channels: int) -> nn.Module:
    return nn.ModuleDict({"body": nn.Sequential(_conv(channels, channels // 2), nn.PixelUnshuffle(2))})


def _doubling(channels: int) -> nn.Module:
    return nn.ModuleDict({"body": nn.Sequential(_conv(channels, 2 * channels), nn.PixelShuffle(2))})
