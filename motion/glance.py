"""First looks at small pictures: cheap enough for every frame, sharp enough to say that nothing is to do."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]

_WIDTH = 320  # pixels of the longer side of what is looked at
_THUMB = (64, 36)  # columns and rows in which scenes are told apart
_CENTRE = 0.6  # share of a frame's sides that must be found again in the next
_UNLIKE = 0.6  # lack of correlation that no pan, flash or passing actor reaches
_FLAT = 1.0  # codes, standard deviation under which a thumbnail shows nothing
_VISIBLE = 12.0  # codes by which a patch differs that neither noise nor coding explains
_SPECK = 3  # pixels of the small picture; smaller changes are noise


def glance(before: Tensor, after: Tensor) -> float:
    """An upper bound of the motion between two frames, in pixels.

    Dense flow of reduced pictures where something changed, its fastest hundredth; and for things too small
    and fast for flow, the size of the patch that changed without any flow to explain it. Changes of light
    count as motion: better a frame looked at twice than one overlooked.

    Args:
        before: [H, W] uint8 gamma-coded luma.
        after: The next frame's.
    """
    a, b, scale = *_reduced(before.numpy(), after.numpy()), max(before.shape) / _WIDTH
    change = cv2.blur(cv2.absdiff(a, b), (3, 3)).astype(np.float32)
    changed = change > np.clip(4 * np.median(change), 1.5, 4)
    if changed.sum() < _SPECK:
        return 0.0
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    search.setFinestScale(1)
    flow = np.asarray(search.calc(a, b, np.zeros((*a.shape, 2), np.float32)))
    speed = np.hypot(flow[..., 0], flow[..., 1])
    swift = float(np.percentile(np.where(changed, speed, 0), 99))
    return max(scale, 1.0) * max(swift, _unexplained(a, b, flow))


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


def _unexplained(before: Array, after: Array, flow: Array) -> float:
    """Extent of the largest patch that still differs once `after` is laid back along the flow, in pixels."""
    rows, columns = np.indices(before.shape, np.float32)
    laid = cv2.remap(after, flow[..., 0] + columns, flow[..., 1] + rows, cv2.INTER_LINEAR)
    differs = cv2.blur(cv2.absdiff(before, laid), (3, 3))
    # Flow of so small a picture errs by up to a pixel, on either picture's slopes.
    missed = differs > _VISIBLE + np.maximum(_slope(before), _slope(laid))
    _, _, stats, _ = cv2.connectedComponentsWithStats(missed.astype(np.uint8))
    extents = stats[1:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max(1)
    return float(extents[stats[1:, cv2.CC_STAT_AREA] >= _SPECK].max(initial=0))


def _slope(luma: Array) -> Array:
    x, y = cv2.Sobel(luma, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(luma, cv2.CV_32F, 0, 1, scale=0.125)
    return np.asarray(cv2.blur(cv2.magnitude(x, y), (3, 3)))


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
