"""Flow estimators: each finds every pixel of one frame in another. None needs trained weights.

A `FlowEstimator` is one of these functions with its options bound by `functools.partial`. Where both
directions are wanted, the `_pair` functions compute them once.
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
_MIN_SIDE = 16  # pixels; smaller pictures have no motion that could be told


def dis_flow(source: Tensor, target: Tensor, *, preset: DisPreset = "medium") -> Flow:
    """Dense inverse search (Kroeger et al. 2016) by OpenCV; both frames [3, H, W] linear RGB.

    Takes no gradient.
    """
    return dis_pair(source, target, preset=preset)[0]


def dis_pair(source: Tensor, target: Tensor, *, preset: DisPreset = "medium") -> tuple[Flow, Flow]:
    """`dis_flow` from source to target and back. Takes no gradient."""
    lumas = gamma_luma_uint8(source), gamma_luma_uint8(target)
    forward = dis_uv(*lumas, preset=preset)
    backward = dis_uv(*lumas[::-1], preset=preset)
    return make_flow_pair(forward.to(source.device), backward.to(source.device))


def kornia_flow(
    source: Tensor, target: Tensor, *, start: Tensor | None = None, config: SolverConfig | None = None
) -> Flow:
    """Variational flow of Kornia's blocks, differentiable; both frames [3, H, W] linear RGB.

    Args:
        source: The frame whose pixels are sought.
        target: The frame in which they are sought.
        start: [2, H, W] pixels, a first guess such as DIS gives, source to target.
        config: How hard to try.
    """
    return kornia_pair(source, target, start=start, config=config)[0]


def kornia_pair(
    source: Tensor, target: Tensor, *, start: Tensor | None = None, config: SolverConfig | None = None
) -> tuple[Flow, Flow]:
    """`kornia_flow` from source to target and back, in one batch."""
    if min(source.shape[-2:]) < _MIN_SIDE:
        rest = source.new_zeros(2, *source.shape[-2:])
        return make_flow_pair(rest, rest)
    lumas = torch.stack((gamma_luma(source), gamma_luma(target))).unsqueeze(1)
    guess = None if start is None else torch.stack((start, invert(start)))
    uvs = variational_uv(lumas, lumas.flip(0), start=guess, config=config or SolverConfig())
    return make_flow_pair(uvs[0], uvs[1])


def make_flow_pair(forward: Tensor, backward: Tensor) -> tuple[Flow, Flow]:
    """The two directions of one pair of frames, [2, H, W] each, with the trust that each gives the other."""
    forward_flow = Flow(uv=forward, confidence=confidence(forward, backward))
    return forward_flow, Flow(uv=backward, confidence=confidence(backward, forward))


def dis_uv(source: np.ndarray, target: np.ndarray, *, preset: DisPreset = "medium") -> Tensor:
    """The shift alone, [2, H, W] pixels, between two [H, W] uint8 gamma-coded lumas."""
    if min(source.shape) < _MIN_SIDE:
        return torch.zeros(2, *source.shape)
    start = np.zeros((*source.shape, 2), np.float32)
    uv = np.asarray(cv2.DISOpticalFlow.create(_DIS[preset]).calc(source, target, start))
    return torch.from_numpy(uv).permute(2, 0, 1).contiguous()


def gamma_luma(image: Tensor) -> Tensor:
    """[H, W] brightness with noise and contrast about even from dark to light, of [3, H, W] linear RGB.

    The square root is the gamma that makes photon noise even (Anscombe 1948), and is cheap.
    """
    weights = image.new_tensor(LUMA).reshape(3, 1, 1)
    # The small offset keeps the slope finite in black, for the sake of gradients.
    return ((image.clamp(0, 1) * weights).sum(0) + 1e-5).sqrt()


def gamma_luma_uint8(image: Tensor) -> np.ndarray:
    """`gamma_luma` as [H, W] uint8."""
    encoded: np.ndarray = (gamma_luma(image.detach()) * 255 + 0.5).clamp(0, 255).byte().cpu().numpy()
    return encoded
