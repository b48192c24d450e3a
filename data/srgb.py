"""8-bit sRGB images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .color import SRGB, to_encoded, to_linear

SrgbImage = npt.NDArray[np.uint8]  # [H, W, 3] sRGB code values

_LINEAR = to_linear(torch.arange(256) / 255, SRGB).numpy()  # of each code value


def linear_to_srgb(image: Tensor) -> SrgbImage:
    """[H, W, 3] uint8 sRGB of [3, H, W] linear RGB; values outside [0, 1] are clipped.

    Raises:
        ValueError: The image has NaN.
    """
    # The cast to uint8 would make NaN black, the best of scores in a dark image.
    if image.isnan().any():
        raise ValueError("an image with NaN has no sRGB code values")
    signal = to_encoded(image.detach().cpu().float().clamp(0, 1), SRGB)
    encoded: SrgbImage = (signal.clamp(0, 1) * 255 + 0.5).byte().permute(1, 2, 0).contiguous().numpy()
    return encoded


def srgb_to_linear(encoded: SrgbImage) -> Tensor:
    """[3, H, W] linear RGB of [H, W, 3] uint8 sRGB."""
    return torch.from_numpy(_LINEAR[encoded]).permute(2, 0, 1).contiguous()
