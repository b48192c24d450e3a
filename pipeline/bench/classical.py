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
Deconvolver = Callable[[Array, Array], Array]
"""[h, w, 3] light and a blur [k, k] that sums to 1, to [h, w, 3]."""

TILE_PX = 96  # pixels; neighbouring tiles share half of it
MIN_BLUR_PX = 1.0  # pixels of way; less is no blur
BORDER_PX = 24  # pixels beyond half a way, for what a filter spoils at its border
WIENER_BALANCE = 0.03  # of Wiener's filter between data and smoothness; the best of several on REDS
RL_ITERATIONS = 10  # of Richardson and Lucy; the best of several on REDS
RL_OFFSET = 1e-3  # light; a ratio of less means nothing


def deconvolve_tiled(image: Tensor, blur_vectors: Tensor, *, deconvolve: Deconvolver) -> Tensor:
    """Deconvolve a picture along its motion, tile by tile.

    Args:
        image: [3, H, W] linear RGB.
        blur_vectors: Of each pixel while the shutter was open. [2, H, W] pixels.
        deconvolve: How a tile is deconvolved.
    """
    pad = BORDER_PX + math.ceil(float(blur_vectors.abs().amax()) / 2)
    linear = image.permute(1, 2, 0).numpy()
    padded = np.pad(linear, ((pad, pad), (pad, pad), (0, 0)), mode="symmetric")
    total, weights = np.zeros_like(linear), np.zeros((*linear.shape[:2], 1), np.float32)
    for rows, columns in _tiles(linear.shape[0], linear.shape[1]):
        mean = blur_vectors[:, rows, columns].mean((1, 2))
        tile = linear[rows, columns]
        if float(mean.norm()) > MIN_BLUR_PX:
            padded_tile = slice(rows.start, rows.stop + 2 * pad), slice(columns.start, columns.stop + 2 * pad)
            tile = deconvolve(padded[padded_tile], motion_psf(mean))[pad:-pad, pad:-pad]
        window = np.outer(_blend_window(tile.shape[0]), _blend_window(tile.shape[1]))[..., None].astype(
            np.float32
        )
        total[rows, columns] += window * tile
        weights[rows, columns] += window
    return torch.from_numpy(total / weights).permute(2, 0, 1).clamp(0, 1).contiguous()


def wiener(linear: Array, psf: Array) -> Array:
    """Wiener's filter (Hunt 1971, Laplacian as regulariser) by scikit-image."""
    restoration = load_skimage_restoration()
    return np.stack([restoration.wiener(linear[..., c], psf, WIENER_BALANCE) for c in range(3)], axis=-1)


def richardson_lucy(linear: Array, psf: Array) -> Array:
    """Richardson (1972) and Lucy (1974) by scikit-image."""
    restored = load_skimage_restoration().richardson_lucy(
        linear + RL_OFFSET, psf[..., None], RL_ITERATIONS, filter_epsilon=RL_OFFSET
    )
    return np.asarray(restored - RL_OFFSET, np.float32)


def motion_psf(blur_vector: Tensor) -> Array:
    """[k, k] what a way of [2] pixels makes of a point of light."""
    half = math.ceil(float(blur_vector.abs().amax()) / 2) + 1
    point = torch.zeros(1, 2 * half + 1, 2 * half + 1)
    point[0, half, half] = 1
    psf = blur(point, blur_vector.view(2, 1, 1).expand(2, *point.shape[1:]).contiguous())[0]
    normalized: Array = (psf / psf.sum()).numpy()
    return normalized


def load_skimage_restoration() -> Any:
    """scikit-image's deconvolution, or a word about what to install."""
    try:
        from skimage import restoration
    except ImportError as error:
        raise MissingExtra("scikit-image", "bench", "a benchmark") from error
    return restoration


def _tiles(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    for top in _tile_starts(height):
        for left in _tile_starts(width):
            yield slice(top, min(top + TILE_PX, height)), slice(left, min(left + TILE_PX, width))


def _tile_starts(size: int) -> list[int]:
    last = max(0, size - TILE_PX)
    return sorted({*range(0, last, TILE_PX // 2), last})


def _blend_window(size: int) -> npt.NDArray[np.float64]:
    ramp: npt.NDArray[np.float64] = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2 + 1e-3
    return ramp
