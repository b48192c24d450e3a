"""The U-net that Restormer and HAIR share: everything but the blocks of its way up.

Going down, channels double as sides halve; going up, what the way down saw at a scale is joined on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .layers import Block, Shape

Stage = Callable[[Tensor], Tensor]
"""Several blocks at one scale. [B, C, H, W] both ways."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetConfig:
    """Sizes of the network; a `dim` that its heads divide, and at least two scales."""

    dim: int = 48  # channels at full size, doubled at each smaller scale
    blocks: tuple[int, ...] = (4, 6, 6, 8)  # at each scale, the smallest last; on the way up as many again
    refinement: int = 4  # blocks after the last join
    heads: tuple[int, ...] = (1, 2, 4, 8)  # of the attention at each scale
    expansion: float = 2.66  # channels inside the feed-forward parts over those outside, rounded down
    channels: int = 3  # of the picture: RGB, or 1 for grey
    centred: bool = True  # see `restormer_layers.ChannelNorm`
    reduce_latent: bool = (
        False  # whether the smallest scale's channels are halved before the way up (PromptIR's)
    )

    def __post_init__(self) -> None:
        if len(self.blocks) != len(self.heads) or len(self.blocks) < 2 + self.reduce_latent:
            raise ValueError(f"{self.blocks} blocks and {self.heads} heads: one of each per scale, 2 or more")
        if any(self.dim * 2**i % heads for i, heads in enumerate(self.heads)):
            raise ValueError(f"dim {self.dim}: {self.heads} heads do not divide its channels")

    @property
    def scales(self) -> int:
        return len(self.blocks)

    @property
    def multiple(self) -> int:
        """Sides that divide by this pass through every scale without padding. Pixels."""
        return int(2 ** (self.scales - 1))

    def shape(self, scale: int, *, width: int = 1) -> Shape:
        """Of the blocks at a scale, counted from 0 at full size, `width` times as wide as on the way down."""
        channels = self.dim * 2**scale * width
        hidden = int(channels * self.expansion)
        return Shape(channels=channels, heads=self.heads[scale], hidden=hidden, centred=self.centred)


def decoder_stages(config: NetConfig) -> dict[str, tuple[Shape, int]]:
    """Shape and number of the blocks of each stage from the smallest scale on, by name, in order.

    At full size the blocks stay twice as wide as on the way down: what is joined on is not mixed down.
    """
    last = config.scales - 1
    stages = {"latent": (config.shape(last), config.blocks[last])}
    for scale in range(last - 1, -1, -1):
        shape = config.shape(scale, width=2 if scale == 0 else 1)
        stages[f"decoder_level{scale + 1}"] = (shape, config.blocks[scale])
    return stages | {"refinement": (config.shape(0, width=2), config.refinement)}


def build_unet(config: NetConfig) -> dict[str, nn.Module]:
    """Every module outside of `decoder_stages`, by its published name."""
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


def blocks(shape: Shape, count: int) -> nn.Sequential:
    """`count` blocks of one shape. [B, dim, H, W] to the same."""
    return nn.Sequential(*(Block(shape) for _ in range(count)))


def encode(net: nn.Module, encoded: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Features at the smallest scale, and those of each scale above it, full size first."""
    x: Tensor = net.get_submodule("patch_embed.proj")(encoded)
    skips: list[Tensor] = []
    while hasattr(net, f"encoder_level{len(skips) + 1}"):
        skips.append(net.get_submodule(f"encoder_level{len(skips) + 1}")(x))
        x = net.get_submodule(f"down{len(skips)}_{len(skips) + 1}.body")(skips[-1])
    return x, skips


def decode(net: nn.Module, x: Tensor, skips: list[Tensor], stages: Mapping[str, Stage]) -> Tensor:
    """From the smallest scale's features to what has to be added to the picture. [B, channels, H, W]."""
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


def count(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many different names follow `prefix`, up to the next dot."""
    return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})


def simplest_ratio(hidden: Mapping[int, int]) -> float:
    """The shortest decimal number g with int(channels g) = hidden for every pair of `hidden`.

    Raises:
        ValueError: No number makes all these sizes.
    """
    low = max(inner / channels for channels, inner in hidden.items())
    for digits in range(8):
        steps = 10.0**digits
        first = math.ceil(low * steps)
        for expansion in (first / steps, (first + 1) / steps):
            # Tried, not trusted: 60 * 2.05 is 122.99999999999999.
            if all(int(c * expansion) == inner for c, inner in hidden.items()):
                return expansion
    raise ValueError(f"no growth makes feed-forward sizes {dict(hidden)}")


def _conv(inside: int, out: int) -> nn.Conv2d:
    return nn.Conv2d(inside, out, 3, padding=1, bias=False)


def _halving(channels: int) -> nn.Module:
    return nn.ModuleDict({"body": nn.Sequential(_conv(channels, channels // 2), nn.PixelUnshuffle(2))})


def _doubling(channels: int) -> nn.Module:
    return nn.ModuleDict({"body": nn.Sequential(_conv(channels, 2 * channels), nn.PixelShuffle(2))})
