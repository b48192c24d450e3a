"""Optical flow estimators without trained weights.

A `FlowEstimator` is one of these functions with its options bound by `functools.partial`. The `_pair`
functions estimate both directions at once.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from freezeframe.data.color import LUMA
from freezeframe.data.types import Flow

from .consistency import confidence
from .variational import SolverConfig, variational_uv
from .warp import invert

DisPreset = Literal["ultrafast", "fast", "medium"]

_DIS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}
_MIN_SIDE = 16  # pixels; the flow of smaller images is 0


def dis_flow(source: Tensor, target: Tensor, *, preset: DisPreset = "medium") -> Flow:
    """Dense inverse search (Kroeger et al. 2016) of OpenCV; both frames [3, H, W] linear RGB.

    Takes no gradient.
    """
    return dis_pair(source, target, preset=preset)[0]


def dis_pair(source: Tensor, target: Tensor, *, preset: DisPreset = "medium") -> tuple[Flow, Flow]:
    """`dis_flow` in both directions. Takes no gradient."""
    lumas = gamma_luma_uint8(source), gamma_luma_uint8(target)
    forward = dis_uv(*lumas, preset=preset)
    backward = dis_uv(*lumas[::-1], preset=preset)
    return make_flow_pair(forward.to(source.device), backward.to(source.device))


def kornia_flow(
    source: Tensor, target: Tensor, *, start: Tensor | None = None, config: SolverConfig | None = None
) -> Flow:
    """Variational flow, differentiable.

    Args:
        source: [3, H, W] linear RGB.
        target: As `source`.
        start: [2, H, W] pixels: initial flow from source to target, such as that of `dis_flow`.
        config: Effort and tunables.
    """
    return kornia_pair(source, target, start=start, config=config)[0]


def kornia_pair(
    source: Tensor, target: Tensor, *, start: Tensor | None = None, config: SolverConfig | None = None
) -> tuple[Flow, Flow]:
    """`kornia_flow` in both directions, in one batch."""
    if min(source.shape[-2:]) < _MIN_SIDE:
        zero = source.new_zeros(2, *source.shape[-2:])
        return make_flow_pair(zero, zero)
    lumas = torch.stack((gamma_luma(source), gamma_luma(target))).unsqueeze(1)
    starts = None if start is None else torch.stack((start, invert(start)))
    uvs = variational_uv(lumas, lumas.flip(0), start=starts, config=config or SolverConfig())
    return make_flow_pair(uvs[0], uvs[1])


def make_flow_pair(forward: Tensor, backward: Tensor) -> tuple[Flow, Flow]:
    """Both flows of a pair of frames, [2, H, W] pixels each, with their consistency as confidence."""
    forward_flow = Flow(uv=forward, confidence=confidence(forward, backward))
    return forward_flow, Flow(uv=backward, confidence=confidence(backward, forward))


def dis_uv(source: np.ndarray, target: np.ndarray, *, preset: DisPreset = "medium") -> Tensor:
    """Flow without confidence, [2, H, W] pixels, between two [H, W] uint8 gamma-coded lumas."""
    if min(source.shape) < _MIN_SIDE:
        return torch.zeros(2, *source.shape)
    start = np.zeros((*source.shape, 2), np.float32)
    uv = np.asarray(cv2.DISOpticalFlow.create(_DIS[preset]).calc(source, target, start))
    return torch.from_numpy(uv).permute(2, 0, 1).contiguous()


def gamma_luma(image: Tensor) -> Tensor:
    """Gamma-coded luma in [0, 1], [H, W], of [3, H, W] linear RGB.

    The square root makes photon noise independent of the brightness (Anscombe 1948), and is cheap.
    """
    weights = image.new_tensor(LUMA).reshape(3, 1, 1)
    # The offset keeps the gradient finite in black.
    return ((image.clamp(0, 1) * weights).sum(0) + 1e-5).sqrt()


def gamma_luma_uint8(image: Tensor) -> np.ndarray:
    """`gamma_luma` times 255, [H, W] uint8."""
    encoded: np.ndarray = (gamma_luma(image.detach()) * 255 + 0.5).clamp(0, 255).byte().cpu().numpy()
    return encoded
