"""How far a flow can be believed: there and back again must end where it began."""

from __future__ import annotations

import torch
from torch import Tensor

from .interpolation import pixel_grid
from .warp import warp

# Sundaram, Brox & Keutzer 2010 allow an error that grows with the length of the way. Theirs is tuned for
# long tracks; measured flows of blurred frames agree to about a quarter of a pixel where they are right.
_BASE_TOLERANCE = 1.0  # pixels that even a still point may miss by
_RELATIVE_TOLERANCE = 0.05  # further pixels per pixel of way


def confidence(forward: Tensor, backward: Tensor) -> Tensor:
    """Belief in `forward`, from the point that `backward` returns to.

    Tukey's biweight of the distance between start and return: 1 for a perfect return, exactly 0 for points
    that miss by more than a pixel plus a twentieth of the way (hidden in the target) and for points whose
    way leaves the target.

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
    """[..., H, W] true where the point that `uv` [..., 2, H, W] leads to lies in the image.

    Takes no gradient.
    """
    x, y = pixel_grid(uv)
    height, width = uv.shape[-2:]
    to_x, to_y = x + uv[..., 0, :, :], y + uv[..., 1, :, :]
    return (to_x >= 0) & (to_x <= width - 1) & (to_y >= 0) & (to_y <= height - 1)
