"""How far a flow can be believed: there and back again must end where it began."""

from __future__ import annotations

import torch
from torch import Tensor

from .interpolation import pixel_grid
from .warp import warp

# Sundaram, Brox & Keutzer 2010 allow an error that grows with the length of the way. Theirs is tuned for
# long tracks; measured flows of blurred frames agree to about a quarter of a pixel where they are right.
_FLOOR = 1.0  # pixels that even a still point may miss by
_SLACK = 0.05  # further pixels per pixel of way


def trust(forward: Tensor, backward: Tensor) -> Tensor:
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
    miss = (forward + back).square().sum(0)
    way = (forward.square().sum(0) + back.square().sum(0)) / 2
    allowed = (_FLOOR + _SLACK * (way + 1e-12).sqrt()).square()
    belief = (1 - miss / allowed).clamp(min=0).square()
    return torch.where(inside(forward), belief, torch.zeros_like(belief))


def inside(shift: Tensor) -> Tensor:
    """[..., H, W] true where the point that `shift` [..., 2, H, W] leads to lies in the image.

    Takes no gradient.
    """
    x, y = pixel_grid(shift)
    height, width = shift.shape[-2:]
    to_x, to_y = x + shift[..., 0, :, :], y + shift[..., 1, :, :]
    return (to_x >= 0) & (to_x <= width - 1) & (to_y >= 0) & (to_y <= height - 1)
