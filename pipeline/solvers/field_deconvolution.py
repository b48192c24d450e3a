"""Deconvolution of one photograph along its blur field.

Whether a field is right shows afterwards: only along the right motion is there a sharp image that, blurred,
gives the photograph back. Along a wrong direction or too long a motion Richardson-Lucy finds none.

Nothing here takes a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

from freezeframe.data.blur.blocks import block_upsample
from freezeframe.data.blur.operator import blur
from freezeframe.data.color import SRGB, to_encoded, to_linear
from freezeframe.models.deblur.blur_field import BlurField
from freezeframe.models.deblur.image_statistics import MAX_NOISE, image_statistics

from .iteration import RichardsonLucyParams
from .observation import Observation
from .richardson_lucy import richardson_lucy


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldDeconvolutionParams:
    """Settings of the deconvolution along a blur field."""

    steps: int = 40  # of Richardson-Lucy
    step_size: float = 1.4  # its relaxation; well below 2, as one photograph does not damp it
    tv_weight: float = 0.001  # of the total-variation prior without noise
    tv_weight_noise: float = 1.0  # added to it, times the standard deviation of the noise in [0, 1]
    saturation: float = 0.98  # linear light; more may have been clipped, and says nothing
    saturation_margin_px: int = 1  # around saturated pixels
    gate_window_px: int = 33  # in which the residuals are compared
    good_ratio: float = 0.75  # of the residual of the result to that of the photograph: it is explained
    bad_ratio: float = 0.9  # from which the photograph stays as it is


DEFAULT_PARAMS = FieldDeconvolutionParams()


@torch.no_grad()
def deconvolve_along_field(
    encoded: Tensor, field: BlurField, *, params: FieldDeconvolutionParams = DEFAULT_PARAMS
) -> Tensor:
    """Undo the motion blur of a photograph, where that explains it.

    Args:
        encoded: [3, H, W] sRGB-encoded in [0, 1].
        field: Of the photograph.
        params: Settings.

    Returns:
        [3, H, W] sRGB-encoded in [0, 1]; pixels that nothing is known of keep their bits.
    """
    if not bool((field.blurred > 0).any()):
        return encoded
    linear = to_linear(encoded, SRGB)
    size = encoded.shape[1:]
    vectors = block_upsample(field.vectors, size)
    observation = Observation(
        linear=linear, offset=None, blur_vector=vectors, weight=unsaturated(linear, params)
    )
    noise = MAX_NOISE * float(image_statistics(encoded[None])[0, 2].square())
    sharp = richardson_lucy(
        linear, [observation], steps=params.steps,
        step_size=params.step_size * block_upsample(field.confidence[None], size)[0],
        params=RichardsonLucyParams(tv_weight=params.tv_weight + params.tv_weight_noise * noise),
    )  # fmt: skip
    share = explained(encoded, sharp, vectors, params=params)
    restored = to_encoded(sharp.clamp(0, 1), SRGB)
    return torch.where(share > 0, torch.lerp(encoded, restored, share), encoded)


def explained(
    encoded: Tensor, sharp: Tensor, vectors: Tensor, *, params: FieldDeconvolutionParams = DEFAULT_PARAMS
) -> Tensor:
    """[H, W] in [0, 1] how well a sharp image explains the photograph around each pixel.

    Compares what is left of the photograph [3, H, W], encoded, when the sharp image [3, H, W], linear, is
    blurred along `vectors` [2, H, W], with what is left when the photograph itself is.
    """
    window = params.gate_window_px
    before, after = (
        (to_encoded(blur(linear, vectors).clamp(0, 1), SRGB) - encoded).square().mean(0, keepdim=True)
        for linear in (to_linear(encoded, SRGB), sharp)
    )
    before, after = (
        avg_pool2d(each, window, stride=1, padding=window // 2, count_include_pad=False)[0]
        for each in (before, after)
    )
    ratio = (after / before.clamp_min(1e-12)).sqrt()
    return ((params.bad_ratio - ratio) / (params.bad_ratio - params.good_ratio)).clamp(0, 1)


def unsaturated(linear: Tensor, params: FieldDeconvolutionParams = DEFAULT_PARAMS) -> Tensor:
    """[H, W] 0 at and beside pixels whose light may have been clipped, else 1."""
    clipped = (linear.amax(0, keepdim=True) > params.saturation).float()
    margin = params.saturation_margin_px
    return 1 - max_pool2d(clipped[None], 2 * margin + 1, stride=1, padding=margin)[0, 0]
