"""Deconvolution of one photograph along its blur field.

Nothing here takes a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

from freezeframe.data.blur.blocks import block_upsample
from freezeframe.models.deblur.blur_field import BlurField

from .observation import Observation
from .richardson_lucy import richardson_lucy


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldDeconvolutionParams:
    """Settings of the deconvolution along a blur field."""

    steps: int = 12  # of Richardson-Lucy
    saturation: float = 0.97  # linear light; more may have been clipped, and says nothing
    saturation_margin_px: int = 1  # around saturated pixels
    min_confidence: float = 0.25  # of the field; blocks below it stay as they are
    full_confidence: float = 0.6  # of the field, from which steps are whole


DEFAULT_PARAMS = FieldDeconvolutionParams()


def deconvolve_along_field(
    linear: Tensor, field: BlurField, *, params: FieldDeconvolutionParams = DEFAULT_PARAMS
) -> Tensor:
    """Undo the motion blur of a photograph where its field is sure.

    Args:
        linear: [3, H, W] linear RGB.
        field: Of the photograph.
        params: Settings.

    Returns:
        [3, H, W] linear RGB; blocks without motion blur keep their bits.
    """
    vectors = block_upsample(field.vectors, linear.shape[1:])
    observation = Observation(
        linear=linear, offset=None, blur_vector=vectors, weight=unsaturated(linear, params)
    )
    size = block_upsample(step_sizes(field, params)[None], linear.shape[1:])[0]
    return richardson_lucy(linear, [observation], steps=params.steps, step_size=size)


def step_sizes(field: BlurField, params: FieldDeconvolutionParams = DEFAULT_PARAMS) -> Tensor:
    """[H / 4, W / 4] in [0, 1]: 0 where there is no motion blur or the field is unsure."""
    rise = params.full_confidence - params.min_confidence
    sure = ((field.confidence - params.min_confidence) / rise).clamp(0, 1)
    sure = torch.where(field.vectors.norm(dim=0) > 0, sure, 0.0)
    # Smoothed: a seam between a block that is sharpened and its neighbour that is not would show.
    smooth = avg_pool2d(sure[None], 3, stride=1, padding=1, count_include_pad=False)[0]
    return torch.where(sure > 0, smooth, 0.0)


def unsaturated(linear: Tensor, params: FieldDeconvolutionParams = DEFAULT_PARAMS) -> Tensor:
    """[H, W] 0 at and beside pixels whose light may have been clipped, else 1."""
    clipped = (linear.amax(0, keepdim=True) > params.saturation).float()
    margin = params.saturation_margin_px
    return 1 - max_pool2d(clipped[None], 2 * margin + 1, stride=1, padding=margin)[0, 0]
