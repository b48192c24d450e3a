"""Confidence of optical flow by forward-backward consistency."""

from __future__ import annotations

import torch
from torch import Tensor

from .interpolation import pixel_grid
from .warp import warp

# Sundaram, Brox & Keutzer 2010 allow an error that grows with the length of the flow. Their values are
# tuned for long tracks; flows of blurred frames agree to about a quarter of a pixel where they are right.
_BASE_TOLERANCE = 1.0  # pixels
_RELATIVE_TOLERANCE = 0.05  # pixels per pixel of flow


def confidence(forward: Tensor, backward: Tensor) -> Tensor:
    """Forward-backward consistency of a flow.

    Tukey's biweight of the distance between the start of a path and the end of its return path: 1 if the
    distance is 0, exactly 0 if it exceeds a pixel plus a twentieth of the length (points that are occluded
    in the target) or if the path leaves the target.

    Args:
        forward: [2, H, W] pixels, source to target.
        backward: [2, H, W] pixels, target to source.

    Returns:
        [H, W] in [0, 1].
    """
    back = warp(backward, forward)
    squared_error = (forward + back).square().sum(0)
    squared_length = (forward.square().sum(0) + back.square().sum(0)) / 2
    squared_tolerance = (_BASE_TOLERANCE + _RELATIVE_TOLERANCE * (squared_length + 1e-12).sqrt()).square()
    weight = (1 - squared_error / squared_tolerance).clamp(min=0).square()
    return torch.where(in_bounds(forward), weight, torch.zeros_like(weight))


def in_bounds(uv: Tensor) -> Tensor:
    """[..., H, W] true where the end point of `uv`, [..., 2, H, W] pixels, lies in the image.

    Takes no gradient.
    """
    x, y = pixel_grid(uv)
    height, width = uv.shape[-2:]
    to_x, to_y = x + uv[..., 0, :, :], y + uv[..., 1, :, :]
    return (to_x >= 0) & (to_x <= width - 1) & (to_y >= 0) & (to_y <= height - 1)
