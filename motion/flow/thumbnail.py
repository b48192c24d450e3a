"""First looks at small pictures: cheap enough for every frame, sharp enough to say that nothing is to do.

Nothing here takes a gradient.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .estimators import dis_shift

Array = NDArray[Any]

_WIDTH = 320  # pixels of the longer side of what is looked at
_THUMB = (64, 36)  # columns and rows in which scenes are told apart
_CENTRE = 0.6  # share of a frame's sides that must be found again in the next
_UNLIKE = 0.6  # lack of correlation that no pan, flash or passing actor reaches
_FLAT = 1.0  # codes, standard deviation under which a thumbnail shows nothing
_ROOM = 128  # pixels of the shorter side below which half a picture tells no more than a thumbnail


def speeds(before: Tensor, after: Tensor) -> Tensor:
    """Speed in pixels per frame at places spread evenly over the picture, [h, w].

    From flow of reduced pictures, in about two milliseconds: good to a pixel or two of the full size.

    Args:
        before: [H, W] uint8 gamma-coded luma.
        after: The next frame's.
    """
    a, b = _reduced(before.numpy(), after.numpy())
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    flow = np.asarray(search.calc(a, b, np.zeros((*a.shape, 2), np.float32)))
    speed = np.hypot(flow[..., 0], flow[..., 1])[::2, ::2]
    return torch.from_numpy(speed * max(1.0, max(before.shape) / _WIDTH))


def closer_speeds(before: Tensor, after: Tensor) -> Tensor:
    """`speeds` by flow of pictures of half the size: ten times as long, and good to half a pixel."""
    if min(before.shape) < _ROOM:
        return speeds(before, after)
    a, b = (np.asarray(_halved(luma.numpy()), np.uint8) for luma in (before, after))
    shift = 2 * dis_shift(a, b)[:, ::2, ::2]
    return torch.hypot(shift[0], shift[1])


def cut_score(before: Tensor, after: Tensor) -> float:
    """How surely two consecutive frames, [H, W] uint8 luma, show different scenes: above 0.5 they do.

    The middle of each thumbnail is sought in the other by normalised correlation, which no flash and no pan
    of less than a fifth of the frame disturbs.
    """
    a, b = (_thumbnail(luma.numpy()) for luma in (before, after))
    unlike = 1 - max(_found(a, b), _found(b, a))
    return float(np.clip(unlike / _UNLIKE, 0, 1))


def _reduced(*lumas: Array) -> tuple[Array, ...]:
    shrink = min(1.0, _WIDTH / max(lumas[0].shape))
    # Dense inverse search needs room for its patches.
    size = tuple(max(32, round(side * shrink)) for side in lumas[0].shape[::-1])
    return tuple(cv2.resize(luma, size, interpolation=cv2.INTER_AREA) for luma in lumas)


def _halved(luma: Array) -> Array:
    return np.asarray(cv2.resize(luma, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))


def _thumbnail(luma: Array) -> Array:
    return np.asarray(cv2.resize(luma, _THUMB, interpolation=cv2.INTER_AREA).astype(np.float32))


def _found(part: Array, whole: Array) -> float:
    """Correlation in [-1, 1] of the middle of one thumbnail with the place in another that fits it best."""
    height, width = part.shape
    y, x = round(height * (1 - _CENTRE) / 2), round(width * (1 - _CENTRE) / 2)
    middle = np.ascontiguousarray(part[y : height - y, x : width - x])
    if middle.std() < _FLAT:
        return float(abs(middle.mean() - whole.mean()) < 32 and whole.std() < 2 * _FLAT)
    return float(cv2.matchTemplate(whole, middle, cv2.TM_CCOEFF_NORMED).max())
