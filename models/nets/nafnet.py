"""NAFNet, a restoration network without activation functions (Chen et al. 2022, arXiv 2204.04676).

A U-net whose only non-linearities are the product of two halves of the channels (the gate), LayerNorm and
multiplication by pooled channels. Modules are named as in the published checkpoints, so that these load
key by key. Every hyper-parameter is inferred from the shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, pad

from freezeframe.models.store.state_dict import count_keys

from .state import load_network


@dataclass(frozen=True, slots=True, kw_only=True)
class NetConfig:
    """Width of the network, and number of blocks at each scale (halved from stage to stage)."""

    width: int  # channels at full size, doubled at each smaller scale
    encoders: tuple[int, ...]
    middle: int
    decoders: tuple[int, ...]  # coarsest first

    @property
    def multiple(self) -> int:
        """Sides that are multiples of this need no padding. Pixels."""
        return int(2 ** len(self.encoders))


# The two published for motion blur (GoPro): 17.11 and 67.89 million parameters.
GOPRO_32 = NetConfig(width=32, encoders=(1, 1, 1, 28), middle=1, decoders=(1, 1, 1, 1))
GOPRO_64 = NetConfig(width=64, encoders=(1, 1, 1, 28), middle=1, decoders=(1, 1, 1, 1))


def matches(state: Mapping[str, Tensor]) -> bool:
    """Whether the weights are those of a NAFNet for RGB images."""
    # KBNet has all of these but the second convolution; M3SNet has keys beyond them.
    needed = ("intro.weight", "ending.weight", "downs.0.weight", "ups.0.0.weight", "encoders.0.0.beta",
              "encoders.0.0.conv2.weight")  # fmt: skip
    if any(key not in state for key in needed) or "middle_ups.0.0.weight" in state:
        return False
    return state["intro.weight"].shape[1:] == (3, 3, 3)


def load(state: Mapping[str, Tensor], *, window: int | None = None) -> NAFNet:
    """Load the network with these weights, in float32.

    Args:
        state: Keys and shapes as published.
        window: See `NAFNet`.

    Raises:
        RuntimeError: A key is missing or unexpected, or a shape differs; the message names it.
    """
    return load_network(lambda: NAFNet(infer_config(state), window=window), state)


def infer_config(state: Mapping[str, Tensor]) -> NetConfig:
    """Infer the hyper-parameters from the shape of the first layer and the number of blocks with keys."""
    stages = count_keys(state, "downs.")
    return NetConfig(
        width=state["intro.weight"].shape[0],
        encoders=tuple(count_keys(state, f"encoders.{i}.") for i in range(stages)),
        middle=count_keys(state, "middle_blks."),
        decoders=tuple(count_keys(state, f"decoders.{i}.") for i in range(stages)),
    )


class NAFNet(nn.Module):
    """Restore sRGB-encoded images of any size, [B, 3, H, W] in [0, 1]; the result is not clamped.

    Args:
        config: Sizes.
        window: Side of the window over which channel attention pools around each pixel (Chu et al. 2022,
            test-time local converter, arXiv 2112.04491): a pixel then depends on its neighbourhood only,
            not on the size of the image or the tile. None pools over the whole image. Pixels. The authors
            trained on crops of 256 px and quote GoPro figures at window 384.
    """

    def __init__(self, config: NetConfig, *, window: int | None = None) -> None:
        super().__init__()
        self.multiple = config.multiple
        widths = [config.width * 2**i for i in range(len(config.encoders) + 1)]
        windows = [window and max(1, window // 2**i) for i in range(len(widths))]
        coarse_first = list(zip(widths, windows, strict=True))[-2::-1]
        self.intro = nn.Conv2d(3, config.width, 3, padding=1)
        self.ending = nn.Conv2d(config.width, 3, 3, padding=1)
        self.encoders = nn.ModuleList(map(_stage, config.encoders, widths, windows))
        self.downs = nn.ModuleList(nn.Conv2d(w, 2 * w, 2, stride=2) for w in widths[:-1])
        self.middle_blks = _stage(config.middle, widths[-1], windows[-1])
        self.ups = nn.ModuleList(_doubling(2 * w) for w, _ in coarse_first)
        self.decoders = nn.ModuleList(
            _stage(n, *at) for n, at in zip(config.decoders, coarse_first, strict=True)
        )

    def forward(self, image: Tensor) -> Tensor:
        return image + self.correction(image)

    def correction(self, image: Tensor) -> Tensor:
        """Compute the residual to add to `image`, in its number format.

        Apart from the sum, so that half precision rounds the small residual and not the image.
        """
        height, width = image.shape[-2:]
        x = self.intro(pad(image, (0, -width % self.multiple, 0, -height % self.multiple)))
        skips: list[Tensor] = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            skips.append(encoder(x))
            x = down(skips[-1])
        x = self.middle_blks(x)
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            x = decoder(up(x) + skips.pop())
        change: Tensor = self.ending(x)
        return change[..., :height, :width]


def _stage(blocks: int, channels: int, window: int | None) -> nn.Sequential:
    return nn.Sequential(*(Block(channels, window=window) for _ in range(blocks)))


def _doubling(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, 2 * channels, 1, bias=False), nn.PixelShuffle(2))


class Block(nn.Module):
    """Two gated residuals: one mixes pixels and channels, one channels only. [B, C, H, W] to the same."""

    def __init__(self, channels: int, *, window: int | None = None) -> None:
        super().__init__()
        wide = 2 * channels
        self.norm1 = LayerNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, wide, 1)
        self.conv2 = nn.Conv2d(wide, wide, 3, padding=1, groups=wide)
        self.sca = nn.Sequential(Pool(window), nn.Conv2d(channels, channels, 1))
        self.conv3 = nn.Conv2d(channels, channels, 1)
        self.norm2 = LayerNorm2d(channels)
        self.conv4 = nn.Conv2d(channels, wide, 1)
        self.conv5 = nn.Conv2d(channels, channels, 1)
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = simple_gate(self.conv2(self.conv1(self.norm1(x))))
        x = x + self.beta * self.conv3(y * self.sca(y))
        z: Tensor = self.conv5(simple_gate(self.conv4(self.norm2(x))))
        return x + self.gamma * z


def simple_gate(x: Tensor) -> Tensor:
    """Multiply the first half of the channels by the second."""
    first, second = x.chunk(2, dim=1)
    return first * second


class LayerNorm2d(nn.Module):
    """Layer norm over the channels of each pixel. [B, C, H, W] to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        # In channels_last memory both permutations are free.
        pixels = layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, eps=1e-6)
        return pixels.permute(0, 3, 1, 2)


class Pool(nn.Module):
    """Mean of each channel: over the whole image, [B, C, 1, 1], or over a window around each pixel."""

    def __init__(self, window: int | None) -> None:
        super().__init__()
        self.window = window

    def forward(self, x: Tensor) -> Tensor:
        if self.window is None:
            return x.mean((2, 3), keepdim=True)
        return local_mean(x, self.window)


def local_mean(x: Tensor, window: int) -> Tensor:
    """Average over `window` x `window` pixels around each pixel; at borders the window stays inside.

    [B, C, H, W] to the same. An even window extends one pixel further to the left and up.
    """
    return _sliding_mean(_sliding_mean(x, window, dim=2), window, dim=3)


def _sliding_mean(x: Tensor, window: int, *, dim: int) -> Tensor:
    size = x.shape[dim]
    window = min(window, size)
    # Differences of a cumulative sum cost the same for any window, but cancel in half precision.
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    sums = pad(exact.cumsum(dim), (0, 0, 1, 0) if dim == 2 else (1, 0))
    means = (sums.narrow(dim, window, size - window + 1) - sums.narrow(dim, 0, size - window + 1)) / window
    starts = torch.arange(size, device=x.device).sub(window // 2).clamp(0, size - window)
    return means.index_select(dim, starts).to(x.dtype)
