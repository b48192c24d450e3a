"""How true and how steady the motion in a restored clip is, and whether its blur explains the input.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from freezeframe.data.blur.operator import blur
from freezeframe.data.color import SRGB, to_encoded, to_linear
from freezeframe.data.types import Flow, FlowEstimator

from .image import SrgbImage, linear_to_srgb, psnr_srgb


@dataclass(frozen=True, slots=True, kw_only=True)
class Steadiness:
    """How evenly a clip was sharpened; all in nepers, logarithms of sharpness."""

    step: float  # largest change between two frames of output sharpness over input sharpness
    input_step: float  # largest change between two frames of the input's sharpness
    flicker: float  # of the output, see `flicker`
    input_flicker: float


_SRGB_TO_LINEAR = to_linear(torch.arange(256) / 255, SRGB).numpy()  # of each code


def srgb_to_linear(encoded: SrgbImage) -> Tensor:
    """[3, H, W] linear RGB of [H, W, 3] uint8 sRGB."""
    return torch.from_numpy(_SRGB_TO_LINEAR[encoded]).permute(2, 0, 1).contiguous()


def tof(pair: tuple[Tensor, Tensor], truth: Flow, *, flow: FlowEstimator) -> float:
    """How differently two consecutive frames move from the truth's two: pixels, 0 where as they.

    tOF of TecoGAN (Chu et al. 2020): the mean over pixels of |dx - dx*| + |dy - dy*|, both flows by the same
    estimator.

    Args:
        pair: Two consecutive restored frames, [3, H, W] linear RGB each.
        truth: Flow between the two true frames, estimated by `flow`.
        flow: Estimates it.
    """
    return float((flow(*pair).uv - truth.uv).abs().sum(0).double().mean())


def warping_error(pair: tuple[Tensor, Tensor], flow: Flow) -> float:
    """How much a frame differs from the next one laid onto it: mean square of codes in [0, 1].

    Temporal consistency of Lai et al. (2018), only where the flow is to be trusted. Blur lowers it as well as
    steadiness does: it means something beside the input's and the truth's, and beside sharpness.

    Args:
        pair: Two consecutive frames, [3, H, W] linear RGB each.
        flow: Where the second shows what the first does; for comparisons the same for all, say the truth's.
    """
    first, second = (to_encoded(image.clamp(0, 1), SRGB) for image in pair)
    error = (first - warp(second, flow.uv)).square().mean(0)
    weight = flow.confidence * _in_bounds(flow.uv)
    return float((error * weight).double().sum() / weight.double().sum().clamp_min(1e-6))


def reblur_consistency(image: Tensor, blurred: Tensor, blur_vector: Tensor) -> float:
    """How well a restored frame, blurred again, gives the input back: PSNR in dB on 8-bit sRGB codes.

    The one test of fidelity that needs no truth (after Chen et al. 2018, Reblur2Deblur). It is as good as
    `blur_vector` is: the truth's own value belongs beside it.

    Args:
        image: Restored. [3, H, W] linear RGB.
        blurred: The input. [3, H, W] linear RGB.
        blur_vector: Of each pixel while the shutter was open. [2, H, W] pixels.
    """
    return psnr_srgb(linear_to_srgb(blur(image, blur_vector)), linear_to_srgb(blurred))


def sharpness(luma: NDArray[np.uint8]) -> float:
    """Mean length of the gradient of [H, W] uint8 luma, codes per pixel, over a Gaussian of a pixel.

    The Gaussian keeps grain from passing for sharpness.
    """
    smooth = cv2.GaussianBlur(luma.astype(np.float32), (0, 0), 1.0)
    return float(np.hypot(smooth[:-1, 1:] - smooth[:-1, :-1], smooth[1:, :-1] - smooth[:-1, :-1]).mean())


def flicker(sharpness: Sequence[float]) -> float:
    """Mean absolute second difference of the logarithm of consecutive sharpness; 0 where it is steady."""
    return float(np.abs(np.diff(np.log(sharpness), n=2)).mean())


def steadiness(before: Sequence[float], after: Sequence[float]) -> Steadiness:
    """Compare the sharpness of consecutive frames, at least three, `before` and `after` processing."""
    gain = np.log(after) - np.log(before)
    return Steadiness(
        step=float(np.abs(np.diff(gain)).max()),
        input_step=float(np.abs(np.diff(np.log(before))).max()),
        flicker=flicker(after),
        input_flicker=flicker(before),
    )


def warp(image: Tensor, uv: Tensor) -> Tensor:
    """[C, H, W] read bilinearly where `uv`, [2, H, W] pixels, points; border pixels repeat."""
    down, across = np.mgrid[0 : uv.shape[1], 0 : uv.shape[2]].astype(np.float32)
    dx, dy = uv.numpy()
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    warped = cv2.remap(pixels, across + dx, down + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return torch.from_numpy(warped).permute(2, 0, 1)


def _in_bounds(uv: Tensor) -> Tensor:
    """[H, W] 1 where `uv` ends within the picture."""
    height, width = uv.shape[1:]
    x = torch.arange(width) + uv[0]
    y = torch.arange(height)[:, None] + uv[1]
    return ((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)).to(uv)
