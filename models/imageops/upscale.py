"""Upsampling by an integer factor without a network: the base to which upscaling networks add."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import interpolate

from freezeframe.data.color import SRGB, to_encoded, to_linear


def upsample(linear: Tensor, scale: int) -> Tensor:
    """Bicubic upsampling of [B, C, H, W] linear RGB; the same tensor at scale 1.

    Overshoot is clamped to [0, 1]; values that were outside before are upsampled apart.
    """
    if scale == 1:
        return linear
    inside = linear.clamp(0, 1)
    return _bicubic(inside, scale).clamp(0, 1) + _bicubic(linear - inside, scale)


def _bicubic(image: Tensor, scale: int) -> Tensor:
    return interpolate(image, scale_factor=scale, mode="bicubic", align_corners=False)


def upsample_encoded(encoded: Tensor, scale: int) -> Tensor:
    """Upsampling of sRGB-encoded images [B, C, H, W] in [0, 1], in linear light."""
    return encoded if scale == 1 else to_encoded(upsample(to_linear(encoded, SRGB), scale), SRGB)
