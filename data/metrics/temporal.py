"""Temporal metrics: steadiness of sharpness, and consistency of a restored frame with its input.

Nothing here takes a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from freezeframe.data.blur.operator import blur
from freezeframe.data.srgb import linear_to_srgb

from .image import psnr_srgb


@dataclass(frozen=True, slots=True, kw_only=True)
class Steadiness:
    """Steadiness of the sharpness of a processed clip; all in nepers, logarithms of sharpness."""

    step: float  # largest change between two frames of output sharpness over input sharpness
    input_step: float  # largest change between two frames of the sharpness of the input
    flicker: float  # `sharpness_flicker` of the output
    input_flicker: float


def reblur_consistency(image: Tensor, blurred: Tensor, blur_vector: Tensor) -> float:
    """PSNR in dB, on 8-bit sRGB, between a re-blurred restored frame and the input.

    A measure of fidelity without a reference (after Chen et al. 2018, Reblur2Deblur). It depends on the
    accuracy of `blur_vector`: compare it with the value of the ground truth.

    Args:
        image: Restored frame. [3, H, W] linear RGB.
        blurred: Input. [3, H, W] linear RGB.
        blur_vector: [2, H, W] pixels.
    """
    return psnr_srgb(linear_to_srgb(blur(image, blur_vector)), linear_to_srgb(blurred))


def smoothed_gradient(luma: NDArray[np.uint8], region: NDArray[np.bool_] | None = None) -> float:
    """Mean gradient magnitude of [H, W] uint8 luma, code values per pixel, after a Gaussian of one pixel.

    The Gaussian makes it insensitive to noise.

    Args:
        luma: [H, W] uint8.
        region: Pixels that count, [H, W]; NaN if there are none. None: all.
    """
    smooth = cv2.GaussianBlur(luma.astype(np.float32), (0, 0), 1.0)
    gradient = np.hypot(smooth[:-1, 1:] - smooth[:-1, :-1], smooth[1:, :-1] - smooth[:-1, :-1])
    inside = gradient if region is None else gradient[region[:-1, :-1]]
    return float(inside.mean()) if inside.size else math.nan


def sharpness_flicker(sharpness: Sequence[float]) -> float:
    """Mean absolute second difference of the logarithm of the sharpness of consecutive frames, nepers.

    Differences to frames of unknown sharpness (NaN) do not count; NaN if there are no others.
    """
    steps = np.abs(np.diff(np.log(sharpness), n=2))
    known = steps[~np.isnan(steps)]
    return float(known.mean()) if known.size else math.nan


def steadiness(before: Sequence[float], after: Sequence[float]) -> Steadiness:
    """Compare the sharpness of at least three consecutive frames `before` and `after` processing."""
    gain = np.log(after) - np.log(before)
    return Steadiness(
        step=float(np.abs(np.diff(gain)).max()),
        input_step=float(np.abs(np.diff(np.log(before))).max()),
        flicker=sharpness_flicker(after),
        input_flicker=sharpness_flicker(before),
    )
