"""Pictures enlarged by a whole factor without a network: what enlarging networks are measured against."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import interpolate

from freezeframe.data.color import SRGB, to_encoded, to_linear


def upsample(linear: Tensor, scale: int) -> Tensor:
    """Bicubic, `scale` times as many pixels on either side; the very light at 1. [B, C, H, W].

    Where it overshoots it is cut to [0, 1], but for what was outside before.
    """
    if scale == 1:
        return linear
    inside = linear.clamp(0, 1)
    return _bicubic(inside, scale).clamp(0, 1) + _bicubic(linear - inside, scale)


def _bicubic(image: Tensor, scale: int) -> Tensor:
    return interpolate(image, scale_factor=scale, mode="bicubic", align_corners=False)


def upsample_encoded(encoded: Tensor, scale: int) -> Tensor:
    """Pictures in sRGB codes in [0, 1], enlarged as light. [B, C, H, W]."""
    return encoded if scale == 1 else to_encoded(upsample(to_linear(encoded, SRGB), scale), SRGB)
