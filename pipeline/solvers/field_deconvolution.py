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

    steps: int = 40  # of Richardson-Lucy; from about 55 on, pixels that fall at each step underflow
    step_size: float = 1.4  # its relaxation; well below 2, as one photograph does not damp it
    tv_weight: float = 0.001  # of the total-variation prior without noise
    tv_weight_noise: float = 1.0  # added to it, times the standard deviation of the noise in [0, 1]
    saturation: float = 0.98  # linear light; more may have been clipped, and says nothing
    saturation_margin_px: int = 1  # around saturated pixels
    gate_window_px: int = 65  # in which residuals and contrast are compared
    good_residual: float = 0.12  # of the contrast: what a right field leaves of a photograph at most
    bad_residual: float = 0.18  # from which on the photograph stays as it is
    good_ratio: float = 0.85  # of the residual to that of the photograph itself
    bad_ratio: float = 0.97  # from which on the photograph stays as it is


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
    tv_weight = params.tv_weight + params.tv_weight_noise * estimate_noise(encoded)
    sharp = richardson_lucy(
        linear, [observation], steps=params.steps,
        step_size=params.step_size * block_upsample(field.confidence[None], size)[0],
        params=RichardsonLucyParams(tv_weight=tv_weight),
    )  # fmt: skip
    share = explained(encoded, sharp, vectors, params=params)
    restored = to_encoded(sharp.clamp(0, 1), SRGB)
    return torch.where(share > 0, torch.lerp(encoded, restored, share), encoded)


def explained(
    encoded: Tensor, sharp: Tensor, vectors: Tensor, *, params: FieldDeconvolutionParams = DEFAULT_PARAMS
) -> Tensor:
    """[H, W] in [0, 1] how well a sharp image explains the photograph around each pixel.

    The residual is what blurring it along `vectors` leaves of the photograph beyond noise. It must be small
    against the contrast of the photograph, and against the residual of the photograph taken as sharp.

    Args:
        encoded: The photograph. [3, H, W] sRGB-encoded in [0, 1].
        sharp: [3, H, W] linear RGB.
        vectors: [2, H, W] pixels.
        params: Settings.
    """
    before, after = (
        _local_mean((to_encoded(blur(linear, vectors).clamp(0, 1), SRGB) - encoded).square(), params)
        for linear in (to_linear(encoded, SRGB), sharp)
    )
    noise = estimate_noise(encoded) ** 2
    contrast = _local_mean(encoded.square(), params) - _local_mean(encoded, params).square()
    residual = ((after - noise).clamp_min(0) / (contrast - noise).clamp_min(1e-6)).sqrt()
    ratio = (after / before.clamp_min(1e-12)).sqrt()
    small = (params.bad_residual - residual) / (params.bad_residual - params.good_residual)
    smaller = (params.bad_ratio - ratio) / (params.bad_ratio - params.good_ratio)
    return torch.minimum(small, smaller).clamp(0, 1)


def estimate_noise(encoded: Tensor) -> float:
    """Standard deviation of the noise of a picture [3, H, W] in [0, 1]."""
    return MAX_NOISE * float(image_statistics(encoded[None])[0, 2].square())


def _local_mean(values: Tensor, params: FieldDeconvolutionParams) -> Tensor:
    """[H, W] mean over the channels of [3, H, W] and over windows around each pixel."""
    side = min(params.gate_window_px, *(2 * ((length - 1) // 2) + 1 for length in values.shape[1:]))
    across = avg_pool2d(
        values.mean(0, keepdim=True), (1, side), stride=1, padding=(0, side // 2), count_include_pad=False
    )
    return avg_pool2d(across, (side, 1), stride=1, padding=(side // 2, 0), count_include_pad=False)[0]


def unsaturated(linear: Tensor, params: FieldDeconvolutionParams = DEFAULT_PARAMS) -> Tensor:
    """[H, W] 0 at and beside pixels whose light may have been clipped, else 1."""
    clipped = (linear.amax(0, keepdim=True) > params.saturation).float()
    margin = params.saturation_margin_px
    return 1 - max_pool2d(clipped[None], 2 * margin + 1, stride=1, padding=margin)[0, 0]
