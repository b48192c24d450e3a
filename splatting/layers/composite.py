"""Sharp frames of a fitted layer, and how well its re-blurred version explains what was recorded.

Nothing here takes a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from freezeframe.splatting.optim.losses import sqrt_encode

from .fit import time_offsets
from .layer import Crops, Layer, over_background

CHI_SQUARE_MEDIAN = 0.79  # median over mean of the sum of three squares of noise (chi-square distribution)
KEPT_COVERAGE = 0.3  # mean coverage over the exposure up to which a part of the residual is kept


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFrames:
    """The crops with the layer as it was at the middle of each exposure."""

    images: Tensor  # [T, 3, H, W] linear RGB
    coverage: Tensor  # [T, H, W] alpha in [0, 1]: the larger of its mean over the exposure and its middle
    residual: Tensor  # [T] RMS error of the re-blurred layer beyond noise, square roots of light
    absent: Tensor  # [T] the same of the background without the layer

    @property
    def relative_residual(self) -> Tensor:
        """Residual over that without the layer, [T]; 1 where that is 0 too."""
        return (self.residual / self.absent.clamp_min(1e-6)).nan_to_num(1.0)


@torch.no_grad()
def composite(layer: Layer, crops: Crops, sharp_background: Tensor | None = None) -> LayerFrames:
    """Put the layer at the middle of each exposure over the background.

    Where the layer covers a pixel for a part of the exposure only, the difference between the recorded and
    the re-blurred frame stays: grain is kept, and the crop ends without a seam.

    Args:
        layer: Fitted to `crops`.
        crops: At full resolution.
        sharp_background: [T, 3, H, W] linear RGB without the blur of the camera; None if there is none.
    """
    frames = range(len(crops.images))
    sharp = layer.exposures(crops, frames, torch.zeros(1))
    blurred = layer.exposures(crops, frames, time_offsets(layer, crops))
    reblurred = over_background(blurred, crops.background)
    coverage = torch.maximum(blurred[:, 3], sharp[:, 3])
    kept = (1 - coverage / KEPT_COVERAGE).clamp(0, 1).square()[:, None]
    background = crops.background if sharp_background is None else sharp_background
    images = over_background(sharp, background) + kept * (crops.images - reblurred)
    images = torch.where(coverage[:, None] > 0, images, crops.images)
    recorded = sqrt_encode(crops.images)
    weight = (blurred[:, 3] * crops.weight).clamp(0, 1)

    def rms(explanation: Tensor) -> Tensor:
        """RMS over the covered pixels beyond the noise of those that are not covered."""
        errors = (sqrt_encode(explanation) - recorded).square().mean(1)
        covered = (errors * weight).sum((1, 2)) / weight.sum((1, 2)).clamp_min(1)
        return (covered - noise).clamp_min(0).sqrt()

    noise = _noise(crops, recorded, coverage)
    return LayerFrames(
        images=images, coverage=coverage, residual=rms(reblurred), absent=rms(crops.background)
    )


def _noise(crops: Crops, recorded: Tensor, coverage: Tensor) -> Tensor:
    """Mean squared difference of each crop from its background where the layer is absent, [T]."""
    errors = (sqrt_encode(crops.background) - recorded).square().mean(1)
    uncovered = (coverage == 0) & (crops.weight > 0)
    medians = [
        error[where].median() if bool(where.any()) else error.new_zeros(())
        for error, where in zip(errors, uncovered, strict=True)
    ]
    return torch.stack(medians) / CHI_SQUARE_MEDIAN
