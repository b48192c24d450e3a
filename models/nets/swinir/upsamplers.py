"""How SwinIR's features become a picture: in place, or enlarged in one of the authors' three ways."""

from __future__ import annotations

from math import log2

from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu

from .config import Layout

SLOPE = 0.2  # of negative numbers, between layers


def conv(inside: int, out: int) -> nn.Conv2d:
    """3x3, the size kept. [B, inside, H, W] to [B, out, H, W]."""
    return nn.Conv2d(inside, out, 3, padding=1)


def mixing(layout: Layout) -> nn.Module:
    """What ends a group: a convolution, or three with a quarter of the channels between. [B, dim, H, W]."""
    dim = layout.dim
    if not layout.narrow:
        return conv(dim, dim)
    thin = dim // 4
    return nn.Sequential(
        conv(dim, thin), nn.LeakyReLU(SLOPE), nn.Conv2d(thin, thin, 1), nn.LeakyReLU(SLOPE), conv(thin, dim)
    )


def head(layout: Layout) -> dict[str, nn.Module]:
    """The last modules of the network by their published names.

    Raises:
        ValueError: No published head enlarges by the factor asked for.
    """
    dim, wide = layout.dim, layout.features
    if layout.enlarging == "":
        return {"conv_last": conv(dim, layout.channels)}
    if layout.enlarging == "pixelshuffledirect":
        cells = conv(dim, layout.factor**2 * layout.channels)
        return {"upsample": nn.Sequential(cells, nn.PixelShuffle(layout.factor))}
    before = nn.Sequential(conv(dim, wide), nn.LeakyReLU())
    last = {"conv_before_upsample": before, "conv_last": conv(wide, layout.channels)}
    if layout.enlarging == "pixelshuffle":
        return last | {"upsample": _shuffling(wide, layout.factor)}
    doublings = {f"conv_up{i + 1}": conv(wide, wide) for i in range(_doublings(layout.factor))}
    return last | doublings | {"conv_hr": conv(wide, wide)}


def to_picture(net: nn.Module, x: Tensor, layout: Layout) -> Tensor:
    """Features [B, dim, H, W] to [B, channels, factor H, factor W], in the network's range of values."""
    if layout.enlarging == "pixelshuffledirect":
        return _run(net, "upsample", x)
    if layout.enlarging == "":
        return _run(net, "conv_last", x)
    x = _run(net, "conv_before_upsample", x)
    if layout.enlarging == "pixelshuffle":
        return _run(net, "conv_last", _run(net, "upsample", x))
    for i in range(_doublings(layout.factor)):
        doubled = interpolate(x, scale_factor=2, mode="nearest")
        x = leaky_relu(_run(net, f"conv_up{i + 1}", doubled), SLOPE)
    return _run(net, "conv_last", leaky_relu(_run(net, "conv_hr", x), SLOPE))


def _run(net: nn.Module, name: str, x: Tensor) -> Tensor:
    answer: Tensor = net.get_submodule(name)(x)
    return answer


def _shuffling(wide: int, factor: int) -> nn.Sequential:
    if factor == 3:
        return nn.Sequential(conv(wide, 9 * wide), nn.PixelShuffle(3))
    steps = ((conv(wide, 4 * wide), nn.PixelShuffle(2)) for _ in range(_doublings(factor)))
    return nn.Sequential(*(module for step in steps for module in step))


def _doublings(factor: int) -> int:
    if factor & (factor - 1):
        raise ValueError(f"enlarging {factor} times is no number of doublings; use pixelshuffledirect")
    return round(log2(factor))
