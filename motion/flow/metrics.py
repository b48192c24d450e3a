"""Temporal metrics of restored clips that use optical flow.

Nothing here takes a gradient.
"""

from __future__ import annotations

from torch import Tensor

from freezeframe.data.color import SRGB, to_encoded
from freezeframe.data.types import Flow, FlowEstimator

from .consistency import in_bounds
from .warp import warp


def tof(pair: tuple[Tensor, Tensor], truth: Flow, *, flow: FlowEstimator) -> float:
    """TOF of TecoGAN (Chu et al. 2020): mean of |dx - dx*| + |dy - dy*|, pixels, of the flows of two clips.

    Args:
        pair: Two consecutive restored frames, [3, H, W] linear RGB each.
        truth: Flow between the same two frames of the ground truth, estimated by `flow`.
        flow: Flow estimator.
    """
    return float((flow(*pair).uv - truth.uv).abs().sum(0).double().mean())


def warping_error(pair: tuple[Tensor, Tensor], flow: Flow) -> float:
    """Mean squared difference, in encoded values, between a frame and the next one warped to it.

    Temporal consistency of Lai et al. (2018), weighted by the confidence of the flow. Blur lowers it as well
    as steadiness does: compare it with that of the input and of the truth, and together with sharpness.

    Args:
        pair: Two consecutive frames, [3, H, W] linear RGB each.
        flow: From the first frame to the second; the same for all compared clips.
    """
    first, second = (to_encoded(image.clamp(0, 1), SRGB) for image in pair)
    error = (first - warp(second, flow.uv)).square().mean(0)
    weight = flow.confidence * in_bounds(flow.uv)
    return float((error * weight).double().sum() / weight.double().sum().clamp_min(1e-6))
