"""SwinIR's reconstruction heads: a convolution at the same size, or one of the authors' three upsamplers."""

from __future__ import annotations

from math import log2

from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu

from .config import NetConfig

SLOPE = 0.2  # of the leaky ReLUs for negative values


def conv(channels: int, out: int) -> nn.Conv2d:
    """Build a 3x3 convolution that keeps the size."""
    return nn.Conv2d(channels, out, 3, padding=1)


def body_conv(config: NetConfig) -> nn.Module:
    """Build the end of a group: a convolution, or a bottleneck of three with a quarter of the channels."""
    dim = config.dim
    if not config.narrow:
        return conv(dim, dim)
    bottleneck = dim // 4
    return nn.Sequential(
        conv(dim, bottleneck),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(bottleneck, bottleneck, 1),
        nn.LeakyReLU(SLOPE),
        conv(bottleneck, dim),
    )


def build_head(config: NetConfig) -> dict[str, nn.Module]:
    """Build the last modules of the network, by their published names.

    Raises:
        ValueError: No published head upsamples by this factor.
    """
    dim, features = config.dim, config.features
    if config.upsampler == "":
        return {"conv_last": conv(dim, config.channels)}
    if config.upsampler == "pixelshuffledirect":
        cells = conv(dim, config.factor**2 * config.channels)
        return {"upsample": nn.Sequential(cells, nn.PixelShuffle(config.factor))}
    before = nn.Sequential(conv(dim, features), nn.LeakyReLU())
    last = {"conv_before_upsample": before, "conv_last": conv(features, config.channels)}
    if config.upsampler == "pixelshuffle":
        return last | {"upsample": _shuffling(features, config.factor)}
    doublings = {f"conv_up{i + 1}": conv(features, features) for i in range(_doublings(config.factor))}
    return last | doublings | {"conv_hr": conv(features, features)}


def reconstruct(net: nn.Module, x: Tensor, config: NetConfig) -> Tensor:
    """Map features [B, dim, H, W] to [B, channels, factor H, factor W], in the network's range of values."""
    if config.upsampler == "pixelshuffledirect":
        return _run(net, "upsample", x)
    if config.upsampler == "":
        return _run(net, "conv_last", x)
    x = _run(net, "conv_before_upsample", x)
    if config.upsampler == "pixelshuffle":
        return _run(net, "conv_last", _run(net, "upsample", x))
    for i in range(_doublings(config.factor)):
        upsampled = interpolate(x, scale_factor=2, mode="nearest")
        x = leaky_relu(_run(net, f"conv_up{i + 1}", upsampled), SLOPE)
    return _run(net, "conv_last", leaky_relu(_run(net, "conv_hr", x), SLOPE))


def _run(net: nn.Module, name: str, x: Tensor) -> Tensor:
    out: Tensor = net.get_submodule(name)(x)
    return out


def _shuffling(features: int, factor: int) -> nn.Sequential:
    if factor == 3:
        return nn.Sequential(conv(features, 9 * features), nn.PixelShuffle(3))
    steps = ((conv(features, 4 * features), nn.PixelShuffle(2)) for _ in range(_doublings(factor)))
    return nn.Sequential(*(module for step in steps for module in step))


def _doublings(factor: int) -> int:
    if factor & (factor - 1):
        raise ValueError(f"upsampling by {factor}: give a power of 2, or use pixelshuffledirect")
    return round(log2(factor))
