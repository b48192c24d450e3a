"""How far a re-blurred scene is from the footage, as an eye would judge it."""

from __future__ import annotations

import torch
from kornia.metrics import ssim
from torch import Tensor

TOE = 1e-3  # light added before the root: noise in black must not count as contrast
KINK = 1e-3  # difference below which the absolute value is rounded
STRUCTURE = 0.2  # share of the structural term
SATURATED = 0.98  # light at and above which a sensor has lost count


def tones(light: Tensor) -> Tensor:
    """The root of light: nearly what a screen codes and an eye sees, and cheap; of any light."""
    return (light.clamp_min(0) + TOE).sqrt()


def photometric(answer: Tensor, seen: Tensor, weight: Tensor) -> Tensor:
    """0.8 Charbonnier and 0.2 structural dissimilarity of tones, over the weighted pixels.

    Args:
        answer: [B, 3, H, W] linear light.
        seen: Likewise.
        weight: [B, H, W] in [0, 1].
    """
    one, other = tones(answer), tones(seen)
    total = weight.sum().clamp_min(1)
    apart = ((one - other).square() + KINK**2).sqrt().mean(1)
    unlike = (1 - ssim(one, other, 11).mean(1)) / 2
    error: Tensor = ((1 - STRUCTURE) * apart + STRUCTURE * unlike) * weight
    return error.sum() / total


def psnr_of_reblur(answer: Tensor, seen: Tensor, weight: Tensor) -> float:
    """Peak signal to noise ratio of tones over the weighted pixels, dB: what the live line shows."""
    error = ((tones(answer) - tones(seen)).square().mean(-3) * weight).sum() / weight.sum().clamp_min(1)
    return float(-10 * torch.log10(error.clamp_min(1e-10)))


def unsaturated(light: Tensor) -> Tensor:
    """[..., H, W] 1 where no channel of [..., 3, H, W] has lost count, else 0. Takes no gradient."""
    return (light.amax(-3) < SATURATED).to(light)


def roughness(picture: Tensor) -> Tensor:
    """Mean total variation of [C, H, W]: the prior that keeps noise out of what nobody has seen sharply."""
    return picture.diff(dim=1).abs().mean() + picture.diff(dim=2).abs().mean()
