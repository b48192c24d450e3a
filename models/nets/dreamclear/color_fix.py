"""Colours of one picture on the detail of another: diffusion drifts in colour."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

LEVELS = 5  # each blurs twice as far as the one before

ColorFix = Literal["wavelet", "adain", "none"]


def fix_color(picture: Tensor, reference: Tensor, *, method: ColorFix) -> Tensor:
    """`picture` in the colours of `reference`. [B, 3, H, W] codes both."""
    if method == "none":
        return picture
    return wavelet(picture, reference) if method == "wavelet" else adain(picture, reference)


def wavelet(picture: Tensor, reference: Tensor) -> Tensor:
    """What is fine in `picture` on what is coarse in `reference` (StableSR, Wang et al. 2023, 2305.07015)."""
    return picture - coarse(picture) + coarse(reference)


def coarse(x: Tensor) -> Tensor:
    """[B, C, H, W] blurred five times by (1, 2, 1) / 4 along each side, over 1, 2, 4, 8 and 16 pixels."""
    weights = torch.tensor([1.0, 2.0, 1.0], device=x.device, dtype=x.dtype) / 4
    kernel = (weights[:, None] * weights).expand(x.shape[1], 1, 3, 3)
    for level in range(LEVELS):
        reach = 2**level
        x = conv2d(pad(x, (reach,) * 4, mode="replicate"), kernel, dilation=reach, groups=x.shape[1])
    return x


def adain(picture: Tensor, reference: Tensor) -> Tensor:
    """Mean and deviation of each channel as in `reference` (Huang & Belongie 2017, arXiv 1703.06868)."""
    mean, deviation = _moments(picture)
    target_mean, target_deviation = _moments(reference)
    return (picture - mean) / deviation * target_deviation + target_mean


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    # Without the floor a flat channel would be divided by zero.
    variance, mean = torch.var_mean(x, (2, 3), keepdim=True)
    return mean, (variance + 1e-5).sqrt()
