"""Deconvolution baselines of scikit-image, applied to spatially varying motion blur.

Both assume one PSF for the whole image. Therefore: overlapping tiles, each with the PSF of its mean blur
vector, blended.

Nothing here takes a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from freezeframe.data.blur.operator import blur
from freezeframe.data.errors import MissingExtra

Array = npt.NDArray[np.float32]
Deconvolver = Callable[[Array, Array], Array]
"""[h, w, 3] linear and a PSF [k, k] that sums to 1, to [h, w, 3] linear."""

WIENER_BALANCE = 0.03  # regularisation weight of the Wiener filter; the best of several on REDS
RL_ITERATIONS = 10  # iterations of Richardson-Lucy; the best of several on REDS
RL_OFFSET = 1e-3  # linear; added to keep the ratios of dark pixels bounded


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """Tiles of a spatially varying deconvolution."""

    tile_px: int = 96  # side in pixels; neighbouring tiles overlap by half
    border_px: int = 24  # pixels beyond half a blur vector, for the boundary artifacts of the filters
    min_blur_px: float = 1.0  # pixels; tiles with less blur stay unchanged


DEFAULT_TILING = Tiling()


def deconvolve_tiled(
    image: Tensor, blur_vectors: Tensor, *, deconvolve: Deconvolver, tiling: Tiling = DEFAULT_TILING
) -> Tensor:
    """Deconvolve an image along its motion, tile by tile.

    Args:
        image: [3, H, W] linear RGB.
        blur_vectors: Motion of each pixel during the exposure. [2, H, W] pixels.
        deconvolve: The deconvolution of one tile.
        tiling: Size and overlap of the tiles.

    Returns:
        [3, H, W] linear RGB in [0, 1].
    """
    pad = tiling.border_px + math.ceil(float(blur_vectors.abs().amax()) / 2)
    linear = image.permute(1, 2, 0).numpy()
    padded = np.pad(linear, ((pad, pad), (pad, pad), (0, 0)), mode="symmetric")
    total, weights = np.zeros_like(linear), np.zeros((*linear.shape[:2], 1), np.float32)
    for rows, columns in _tiles(linear.shape[0], linear.shape[1], tiling.tile_px):
        mean = blur_vectors[:, rows, columns].mean((1, 2))
        tile = linear[rows, columns]
        if float(mean.norm()) > tiling.min_blur_px:
            padded_tile = slice(rows.start, rows.stop + 2 * pad), slice(columns.start, columns.stop + 2 * pad)
            tile = deconvolve(padded[padded_tile], motion_psf(mean))[pad:-pad, pad:-pad]
        window = np.outer(_blend_window(tile.shape[0]), _blend_window(tile.shape[1]))
        window = window[..., None].astype(np.float32)
        total[rows, columns] += window * tile
        weights[rows, columns] += window
    return torch.from_numpy(total / weights).permute(2, 0, 1).clamp(0, 1).contiguous()


def wiener(linear: Array, psf: Array) -> Array:
    """Wiener filter of scikit-image (Hunt 1971, Laplacian regulariser)."""
    restoration = load_skimage_restoration()
    return np.stack([restoration.wiener(linear[..., c], psf, WIENER_BALANCE) for c in range(3)], axis=-1)


def richardson_lucy(linear: Array, psf: Array) -> Array:
    """Richardson-Lucy deconvolution of scikit-image (Richardson 1972, Lucy 1974)."""
    restored = load_skimage_restoration().richardson_lucy(
        linear + RL_OFFSET, psf[..., None], RL_ITERATIONS, filter_epsilon=RL_OFFSET
    )
    return np.asarray(restored - RL_OFFSET, np.float32)


def motion_psf(blur_vector: Tensor) -> Array:
    """The PSF [k, k] of a blur vector, [2] pixels: the blur of a point, normalised to 1."""
    half = math.ceil(float(blur_vector.abs().amax()) / 2) + 1
    point = torch.zeros(1, 2 * half + 1, 2 * half + 1)
    point[0, half, half] = 1
    psf = blur(point, blur_vector.view(2, 1, 1).expand(2, *point.shape[1:]).contiguous())[0]
    normalized: Array = (psf / psf.sum()).numpy()
    return normalized


def load_skimage_restoration() -> Any:
    """The module `skimage.restoration`.

    Raises:
        MissingExtra: scikit-image is not installed.
    """
    try:
        from skimage import restoration
    except ImportError as error:
        raise MissingExtra("scikit-image", "bench", "a benchmark") from error
    return restoration


def _tiles(height: int, width: int, side: int) -> Iterator[tuple[slice, slice]]:
    for top in _tile_starts(height, side):
        for left in _tile_starts(width, side):
            yield slice(top, min(top + side, height)), slice(left, min(left + side, width))


def _tile_starts(length: int, side: int) -> list[int]:
    last = max(0, length - side)
    return sorted({*range(0, last, side // 2), last})


def _blend_window(size: int) -> npt.NDArray[np.float64]:
    ramp: npt.NDArray[np.float64] = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2 + 1e-3
    return ramp
