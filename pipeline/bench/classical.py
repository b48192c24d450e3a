"""Textbook deconvolution by scikit-image, made to follow a motion that differs from place to place.

Both know one blur for a whole picture only. Therefore: tiles, each along the mean way of its pixels, faded
into one another.

Nothing here takes a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from freezeframe.data.blur.operator import blur
from freezeframe.data.errors import MissingExtra

Array = npt.NDArray[np.float32]
Undo = Callable[[Array, Array], Array]
"""[h, w, 3] light and a blur [k, k] that sums to 1, to [h, w, 3]."""

TILE = 96  # pixels; neighbouring tiles share half of it
LEAST = 1.0  # pixels of way; less is no blur
MARGIN = 24  # pixels beyond half a way, for what a filter spoils at its border
BALANCE = 0.03  # of Wiener's filter between data and smoothness; the best of several on REDS
STEPS = 10  # of Richardson and Lucy; the best of several on REDS
DARK = 1e-3  # light; a ratio of less means nothing


def along_motion(image: Tensor, way: Tensor, *, undo: Undo) -> Tensor:
    """Deconvolve a picture along its motion, tile by tile.

    Args:
        image: [3, H, W] linear RGB.
        way: Of each pixel while the shutter was open. [2, H, W] pixels.
        undo: How a tile is deconvolved.
    """
    reach = MARGIN + math.ceil(float(way.abs().amax()) / 2)
    light = image.permute(1, 2, 0).numpy()
    around = np.pad(light, ((reach, reach), (reach, reach), (0, 0)), mode="symmetric")
    total, weights = np.zeros_like(light), np.zeros((*light.shape[:2], 1), np.float32)
    for rows, columns in _tiles(light.shape[0], light.shape[1]):
        mean = way[:, rows, columns].mean((1, 2))
        tile = light[rows, columns]
        if float(mean.norm()) > LEAST:
            wide = slice(rows.start, rows.stop + 2 * reach), slice(columns.start, columns.stop + 2 * reach)
            tile = undo(around[wide], kernel(mean))[reach:-reach, reach:-reach]
        fade = np.outer(_fade(tile.shape[0]), _fade(tile.shape[1]))[..., None].astype(np.float32)
        total[rows, columns] += fade * tile
        weights[rows, columns] += fade
    return torch.from_numpy(total / weights).permute(2, 0, 1).clamp(0, 1).contiguous()


def wiener(light: Array, spread: Array) -> Array:
    """Wiener's filter (Hunt 1971, Laplacian as regulariser) by scikit-image."""
    restoration = textbook()
    return np.stack([restoration.wiener(light[..., c], spread, BALANCE) for c in range(3)], axis=-1)


def richardson_lucy(light: Array, spread: Array) -> Array:
    """Richardson (1972) and Lucy (1974) by scikit-image."""
    found = textbook().richardson_lucy(light + DARK, spread[..., None], STEPS, filter_epsilon=DARK)
    return np.asarray(found - DARK, np.float32)


def kernel(way: Tensor) -> Array:
    """[k, k] what a way of [2] pixels makes of a point of light."""
    half = math.ceil(float(way.abs().amax()) / 2) + 1
    point = torch.zeros(1, 2 * half + 1, 2 * half + 1)
    point[0, half, half] = 1
    spread = blur(point, way.view(2, 1, 1).expand(2, *point.shape[1:]).contiguous())[0]
    found: Array = (spread / spread.sum()).numpy()
    return found


def textbook() -> Any:
    """scikit-image's deconvolution, or a word about what to install."""
    try:
        from skimage import restoration
    except ImportError as error:
        raise MissingExtra("scikit-image", "bench", "a benchmark") from error
    return restoration


def _tiles(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    for top in _starts(height):
        for left in _starts(width):
            yield slice(top, min(top + TILE, height)), slice(left, min(left + TILE, width))


def _starts(size: int) -> list[int]:
    last = max(0, size - TILE)
    return sorted({*range(0, last, TILE // 2), last})


def _fade(size: int) -> npt.NDArray[np.float64]:
    ramp: npt.NDArray[np.float64] = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2 + 1e-3
    return ramp
