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

from .estimators import dis_uv

Array = NDArray[Any]

_MAX_SIDE = 320  # pixels of the longer side of what is looked at
_THUMB = (64, 36)  # columns and rows in which scenes are told apart
_CENTRE_FRACTION = 0.6  # share of a frame's sides that must be found again in the next
_CUT_DECORRELATION = 0.6  # lack of correlation that no pan, flash or passing actor reaches
_MIN_STD = 1.0  # codes, standard deviation under which a thumbnail shows nothing
_MIN_SIDE = 128  # pixels of the shorter side below which half a picture tells no more than a thumbnail


def coarse_speeds(before: Tensor, after: Tensor) -> Tensor:
    """Speed in pixels per frame at places spread evenly over the picture, [h, w].

    From flow of reduced pictures, in about two milliseconds: good to a pixel or two of the full size.

    Args:
        before: [H, W] uint8 gamma-coded luma.
        after: The next frame's.
    """
    a, b = _downsample(before.numpy(), after.numpy())
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    flow = np.asarray(search.calc(a, b, np.zeros((*a.shape, 2), np.float32)))
    speed = np.hypot(flow[..., 0], flow[..., 1])[::2, ::2]
    return torch.from_numpy(speed * max(1.0, max(before.shape) / _MAX_SIDE))


def fine_speeds(before: Tensor, after: Tensor) -> Tensor:
    """`coarse_speeds` by flow of pictures of half the size: ten times as long, and good to half a pixel."""
    if min(before.shape) < _MIN_SIDE:
        return coarse_speeds(before, after)
    a, b = (np.asarray(_halve(luma.numpy()), np.uint8) for luma in (before, after))
    uv = 2 * dis_uv(a, b)[:, ::2, ::2]
    return torch.hypot(uv[0], uv[1])


def scene_cut_score(before: Tensor, after: Tensor) -> float:
    """How surely two consecutive frames, [H, W] uint8 luma, show different scenes: above 0.5 they do.

    The middle of each thumbnail is sought in the other by normalised correlation, which no flash and no pan
    of less than a fifth of the frame disturbs.
    """
    a, b = (_thumbnail(luma.numpy()) for luma in (before, after))
    decorrelation = 1 - max(_match_score(a, b), _match_score(b, a))
    return float(np.clip(decorrelation / _CUT_DECORRELATION, 0, 1))


def _downsample(*lumas: Array) -> tuple[Array, ...]:
    shrink = min(1.0, _MAX_SIDE / max(lumas[0].shape))
    # Dense inverse search needs room for its patches.
    size = tuple(max(32, round(side * shrink)) for side in lumas[0].shape[::-1])
    return tuple(cv2.resize(luma, size, interpolation=cv2.INTER_AREA) for luma in lumas)


def _halve(luma: Array) -> Array:
    return np.asarray(cv2.resize(luma, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))


def _thumbnail(luma: Array) -> Array:
    return np.asarray(cv2.resize(luma, _THUMB, interpolation=cv2.INTER_AREA).astype(np.float32))


def _match_score(part: Array, whole: Array) -> float:
    """Correlation in [-1, 1] of the middle of one thumbnail with the place in another that fits it best."""
    height, width = part.shape
    y, x = round(height * (1 - _CENTRE_FRACTION) / 2), round(width * (1 - _CENTRE_FRACTION) / 2)
    middle = np.ascontiguousarray(part[y : height - y, x : width - x])
    if middle.std() < _MIN_STD:
        return float(abs(middle.mean() - whole.mean()) < 32 and whole.std() < 2 * _MIN_STD)
    return float(cv2.matchTemplate(whole, middle, cv2.TM_CCOEFF_NORMED).max())
