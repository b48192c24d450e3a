"""How SwinIR's features become a picture: in place, or enlarged in one of the authors' three ways."""

from __future__ import annotations

from math import log2

from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu

from .config import NetConfig

SLOPE = 0.2  # of negative numbers, between layers


def conv(inside: int, out: int) -> nn.Conv2d:
    """3x3, the size kept. [B, inside, H, W] to [B, out, H, W]."""
    return nn.Conv2d(inside, out, 3, padding=1)


def body_conv(config: NetConfig) -> nn.Module:
    """What ends a group: a convolution, or three with a quarter of the channels between. [B, dim, H, W]."""
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
    """The last modules of the network by their published names.

    Raises:
        ValueError: No published head enlarges by the factor asked for.
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
    """Features [B, dim, H, W] to [B, channels, factor H, factor W], in the network's range of values."""
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
    answer: Tensor = net.get_submodule(name)(x)
    return answer


def _shuffling(features: int, factor: int) -> nn.Sequential:
    if factor == 3:
        return nn.Sequential(conv(features, 9 * features), nn.PixelShuffle(3))
    steps = ((conv(features, 4 * features), nn.PixelShuffle(2)) for _ in range(_doublings(factor)))
    return nn.Sequential(*(module for step in steps for module in step))


def _doublings(factor: int) -> int:
    if factor & (factor - 1):
        raise ValueError(f"enlarging {factor} times is no number of doublings; use pixelshuffledirect")
    return round(log2(factor))
