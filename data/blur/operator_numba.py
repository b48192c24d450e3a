"""The blur operator and its adjoint, compiled for the CPU.

Pictures are [H, W, 4] float32, the fourth lane spare; fields are [2, H, W]. Scattering runs in bands of rows,
each with an accumulator of its own, so that no two threads write to one place and the sum is the same on any
number of threads.

Nothing here takes a gradient.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from numba import njit, prange
from torch import Tensor

from .simd4 import FINITE, one_at_a_time, read_pair, write_pair

Array = npt.NDArray[np.float32]

LANES = 4
BANDS = 16
F = np.float32
DARK = F(1e-4)  # linear light; less is noise


@one_at_a_time
def gather(image: Tensor, vectors: Tensor, offset: Tensor | None) -> Tensor:
    """`exposure.blur` of [C, H, W]."""
    way, middle = field(vectors), middles(offset, like=vectors)
    results = [np.empty((*way.shape[1:], LANES), F) for _ in range(0, len(image), LANES)]
    for part, result in zip(torch.split(image, LANES), results, strict=True):
        _gather(packed(part), middle, way, result)
    return unpacked(results, len(image))


@one_at_a_time
def scatter(image: Tensor, vectors: Tensor, offset: Tensor | None) -> Tensor:
    """`exposure.blur_adjoint` of [C, H, W]."""
    way, middle = field(vectors), middles(offset, like=vectors)
    bands = Bands(middle, way)
    results = []
    for part in torch.split(image, LANES):
        _scatter(packed(part), middle, way, bands.sums, bands.first, bands.height)
        results.append(bands.add_to(np.zeros((*image.shape[1:], LANES), F)))
    return unpacked(results, len(image))


def packed(image: Tensor) -> Array:
    """[C, H, W], C <= 4, as [H, W, 4]."""
    planes = list(image.detach().contiguous().numpy())
    # Side by side and apart again by OpenCV: a fraction of NumPy's time.
    return np.asarray(cv2.merge(planes + [np.zeros_like(planes[0])] * (LANES - len(planes))), F)


def field(vectors: Tensor) -> Array:
    """A field of vectors [2, H, W] as an array."""
    return np.ascontiguousarray(vectors.detach().numpy(), F)


def middles(offset: Tensor | None, *, like: Tensor) -> Array:
    """Where ways have their middles, [2, H, W]; None is each pixel's own place."""
    return np.zeros(tuple(like.shape), F) if offset is None else field(offset)


class Bands:
    """Accumulators for bands of rows: each covers the rows that its band's light can reach."""

    def __init__(self, middle: Array, way: Array) -> None:
        rows = middle.shape[1]
        self.height = -(-rows // BANDS)
        count = -(-rows // self.height)
        centre = np.arange(rows, dtype=F)[:, None] + middle[1]
        reach = np.maximum(np.abs(way[1]), 1) / 2 + 1
        starts = np.arange(0, rows, self.height)
        low = np.minimum.reduceat((centre - reach).min(1), starts)
        high = np.maximum.reduceat((centre + reach).max(1), starts)
        self.first = np.clip(np.floor(low), 0, rows - 1).astype(np.int64)
        last = np.clip(np.ceil(high), 0, rows - 1).astype(np.int64)
        span = int((last - self.first).max()) + 2
        self.sums = np.empty((count, span, middle.shape[2], LANES), F)

    def add_to(self, out: Array) -> Array:
        """Add the bands' sum to `out` [H, W, 4]."""
        _add_bands(self.sums, self.first, out)
        return out


def unpacked(parts: list[Array], channels: int) -> Tensor:
    """[H, W, 4] parts as one [C, H, W] picture."""
    planes = np.empty((channels, *parts[0].shape[:2]), F)
    for k, plane in enumerate(planes):
        cv2.extractChannel(parts[k // LANES], k % LANES, plane)
    return torch.from_numpy(planes)


_jit: Any = njit(fastmath=FINITE, error_model="numpy", cache=True)
_jit_parallel: Any = njit(parallel=True, fastmath=FINITE, error_model="numpy", cache=True)
_inline: Any = njit(inline="always", fastmath=FINITE, error_model="numpy")


@_inline
def _way(x: Any, y: Any, ox: Any, oy: Any, ux: Any, uy: Any) -> Any:  # noqa: PLR0917, PLR0913
    """Major axis, ends of the way along it, its middle across it, slope, and one over its length."""
    flat = abs(ux) >= abs(uy)
    along, across, way, drop = (x + ox, y + oy, ux, uy) if flat else (y + oy, x + ox, uy, ux)
    length = max(abs(way), F(1))
    share = F(1) / length if length > F(1) else F(1)  # fast division of 1 by 1 need not be 1
    slope = (-drop if way < F(0) else drop) * share
    half = F(0.5) * length
    return flat, along - half, along + half, across - slope * along, slope, share


@_inline
def _tap(t: Any, low: Any, high: Any, base: Any, slope: Any, share: Any) -> Any:  # noqa: PLR0917, PLR0913
    """Place across the way and weight of the part of the way within pixel `t`."""
    first, last = max(F(t) - F(0.5), low), min(F(t) + F(0.5), high)
    return base + slope * (F(0.5) * (first + last)), max(last - first, F(0)) * share


@_jit_parallel
def _gather(image: Any, middle: Any, way: Any, out: Any) -> None:
    height, width = image.shape[0], image.shape[1]
    x = image.reshape(-1)
    for row in prange(out.shape[0]):
        acc = np.empty(LANES, F)
        for column in range(out.shape[1]):
            flat, low, high, base, slope, share = _way(
                F(column), F(row), middle[0, row, column], middle[1, row, column],
                way[0, row, column], way[1, row, column],
            )  # fmt: skip
            last_along, last_across = (width - 1, height - 1) if flat else (height - 1, width - 1)
            step_along, step_across = (LANES, width * LANES) if flat else (width * LANES, LANES)
            acc[:] = F(0)
            for t in range(int(np.floor(low + F(0.5))), int(np.ceil(high - F(0.5))) + 1):
                side, weight = _tap(t, low, high, base, slope, share)
                side = min(max(side, F(0)), F(last_across))
                near = int(side)
                part = (side - F(near)) * weight
                p = min(max(t, 0), last_along) * step_along + near * step_across
                q = p + (step_across if near < last_across else 0)
                read_pair(acc, x, p, q, weight - part, part)
            for k in range(LANES):
                out[row, column, k] = acc[k]


@_jit_parallel
def _scatter(image: Any, middle: Any, way: Any, sums: Any, first: Any, band_height: Any) -> None:  # noqa: PLR0917, PLR0913
    height, width = image.shape[0], image.shape[1]
    for band in prange(sums.shape[0]):
        out = sums[band].reshape(-1)
        out[:] = F(0)
        origin = first[band] * width * LANES
        acc = np.empty(LANES, F)
        for row in range(band * band_height, min(height, (band + 1) * band_height)):
            for column in range(width):
                flat, low, high, base, slope, share = _way(
                    F(column), F(row), middle[0, row, column], middle[1, row, column],
                    way[0, row, column], way[1, row, column],
                )  # fmt: skip
                last_along, last_across = (width - 1, height - 1) if flat else (height - 1, width - 1)
                step_along, step_across = (LANES, width * LANES) if flat else (width * LANES, LANES)
                for k in range(LANES):
                    acc[k] = image[row, column, k]
                for t in range(int(np.floor(low + F(0.5))), int(np.ceil(high - F(0.5))) + 1):
                    side, weight = _tap(t, low, high, base, slope, share)
                    side = min(max(side, F(0)), F(last_across))
                    near = int(side)
                    part = (side - F(near)) * weight
                    p = min(max(t, 0), last_along) * step_along + near * step_across - origin
                    q = p + (step_across if near < last_across else 0)
                    write_pair(acc, out, p, q, weight - part, part)


@_jit_parallel
def _add_bands(sums: Any, first: Any, out: Any) -> None:
    height = out.shape[0]
    for row in prange(height):
        for band in range(sums.shape[0]):
            inside = row - first[band]
            if 0 <= inside < sums.shape[1]:
                out[row] += sums[band, inside]
