"""Colour transfer between images, against the colour drift of diffusion models."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

LEVELS = 5  # of the a-trous blur; each doubles the dilation

ColorFix = Literal["wavelet", "adain", "none"]


def fix_color(image: Tensor, reference: Tensor, *, method: ColorFix) -> Tensor:
    """Transfer the colours of `reference` to `image`, both sRGB-encoded [B, 3, H, W]."""
    if method == "none":
        return image
    return wavelet(image, reference) if method == "wavelet" else adain(image, reference)


def wavelet(image: Tensor, reference: Tensor) -> Tensor:
    """Replace the low frequencies by those of `reference` (StableSR, Wang et al. 2023, arXiv 2305.07015)."""
    return image - coarse(image) + coarse(reference)


def coarse(x: Tensor) -> Tensor:
    """Blur [B, C, H, W] five times by (1, 2, 1) / 4 along both axes, with dilations 1, 2, 4, 8 and 16."""
    weights = torch.tensor([1.0, 2.0, 1.0], device=x.device, dtype=x.dtype) / 4
    kernel = (weights[:, None] * weights).expand(x.shape[1], 1, 3, 3)
    for level in range(LEVELS):
        dilation = 2**level
        x = conv2d(pad(x, (dilation,) * 4, mode="replicate"), kernel, dilation=dilation, groups=x.shape[1])
    return x


def adain(image: Tensor, reference: Tensor) -> Tensor:
    """Match mean and deviation of each channel to `reference` (Huang & Belongie 2017, arXiv 1703.06868)."""
    mean, deviation = _moments(image)
    target_mean, target_deviation = _moments(reference)
    return (image - mean) / deviation * target_deviation + target_mean


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    # The epsilon keeps a constant channel from a division by zero.
    variance, mean = torch.var_mean(x, (2, 3), keepdim=True)
    return mean, (variance + 1e-5).sqrt()
