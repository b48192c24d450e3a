"""Image losses and priors on linear RGB."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from kornia.metrics import ssim
from torch import Tensor

SQRT_OFFSET = 1e-3  # linear; limits the slope of the root at black, where noise would dominate
SATURATION_LEVEL = 0.98  # linear; sensor values from here on do not measure light


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotometricConfig:
    """Parameters of the photometric loss, on square roots of linear values."""

    charbonnier_eps: float = 1e-3  # difference below which the absolute value is smoothed
    ssim_weight: float = 0.2  # weight of the structural term; the rest is the Charbonnier term


def sqrt_encode(linear: Tensor) -> Tensor:
    """Square root of linear values, a cheap approximation of the sRGB curve without an upper limit."""
    return (linear.clamp_min(0) + SQRT_OFFSET).sqrt()


def photometric(
    rendered: Tensor, observed: Tensor, weight: Tensor, *, config: PhotometricConfig = PhotometricConfig()
) -> Tensor:
    """Weighted mean of Charbonnier loss and structural dissimilarity, on square roots of linear values.

    Args:
        rendered: [B, 3, H, W] linear RGB.
        observed: [B, 3, H, W] linear RGB.
        weight: [B, H, W] in [0, 1].
        config: Weights of the two terms.
    """
    one, other = sqrt_encode(rendered), sqrt_encode(observed)
    total = weight.sum().clamp_min(1)
    charbonnier = ((one - other).square() + config.charbonnier_eps**2).sqrt().mean(1)
    dssim = (1 - ssim(one, other, 11).mean(1)) / 2
    error: Tensor = ((1 - config.ssim_weight) * charbonnier + config.ssim_weight * dssim) * weight
    return error.sum() / total


def psnr_of_reblur(rendered: Tensor, observed: Tensor, weight: Tensor) -> float:
    """PSNR of square roots of linear values over the weighted pixels, dB.

    Args:
        rendered: Re-blurred rendering. [..., 3, H, W] linear RGB.
        observed: Recorded frame. [..., 3, H, W] linear RGB.
        weight: [..., H, W] in [0, 1].
    """
    error = (
        (sqrt_encode(rendered) - sqrt_encode(observed)).square().mean(-3) * weight
    ).sum() / weight.sum().clamp_min(1)
    return float(-10 * torch.log10(error.clamp_min(1e-10)))


def unsaturated_mask(linear: Tensor, *, level: float = SATURATION_LEVEL) -> Tensor:
    """[..., H, W] 1 where all channels of [..., 3, H, W] are below `level`, else 0. Takes no gradient."""
    return (linear.amax(-3) < level).to(linear)


def total_variation(image: Tensor) -> Tensor:
    """Mean anisotropic total variation of [C, H, W], a prior against noise."""
    return image.diff(dim=1).abs().mean() + image.diff(dim=2).abs().mean()
