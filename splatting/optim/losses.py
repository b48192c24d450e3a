"""How far a re-blurred scene is from the footage, as an eye would judge it."""

from __future__ import annotations

import torch
from kornia.metrics import ssim
from torch import Tensor

SQRT_OFFSET = 1e-3  # light added before the root: noise in black must not count as contrast
CHARBONNIER_EPS = 1e-3  # difference below which the absolute value is rounded
SSIM_WEIGHT = 0.2  # share of the structural term
SATURATION_LEVEL = 0.98  # light at and above which a sensor has lost count


def sqrt_encode(linear: Tensor) -> Tensor:
    """The root of light: nearly what a screen codes and an eye sees, and cheap; of any light."""
    return (linear.clamp_min(0) + SQRT_OFFSET).sqrt()


def photometric(rendered: Tensor, observed: Tensor, weight: Tensor) -> Tensor:
    """0.8 Charbonnier and 0.2 structural dissimilarity of tones, over the weighted pixels.

    Args:
        rendered: [B, 3, H, W] linear light.
        observed: Likewise.
        weight: [B, H, W] in [0, 1].
    """
    one, other = sqrt_encode(rendered), sqrt_encode(observed)
    total = weight.sum().clamp_min(1)
    charbonnier = ((one - other).square() + CHARBONNIER_EPS**2).sqrt().mean(1)
    dssim = (1 - ssim(one, other, 11).mean(1)) / 2
    error: Tensor = ((1 - SSIM_WEIGHT) * charbonnier + SSIM_WEIGHT * dssim) * weight
    return error.sum() / total


def psnr_of_reblur(rendered: Tensor, observed: Tensor, weight: Tensor) -> float:
    """Peak signal to noise ratio of tones over the weighted pixels, dB: what the live line shows."""
    error = (
        (sqrt_encode(rendered) - sqrt_encode(observed)).square().mean(-3) * weight
    ).sum() / weight.sum().clamp_min(1)
    return float(-10 * torch.log10(error.clamp_min(1e-10)))


def unsaturated_mask(linear: Tensor) -> Tensor:
    """[..., H, W] 1 where no channel of [..., 3, H, W] has lost count, else 0. Takes no gradient."""
    return (linear.amax(-3) < SATURATION_LEVEL).to(linear)


def total_variation(picture: Tensor) -> Tensor:
    """Mean total variation of [C, H, W]: the prior that keeps noise out of what nobody has seen sharply."""
    return picture.diff(dim=1).abs().mean() + picture.diff(dim=2).abs().mean()
