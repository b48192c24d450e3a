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

from .simd4 import FAST_MATH, read_pair, with_kernel_lock, write_pair

Array = npt.NDArray[np.float32]

LANES = 4
BANDS = 16
F = np.float32
MIN_LINEAR = F(1e-4)  # linear light; less is noise


@with_kernel_lock
def blur_compiled(image: Tensor, vectors: Tensor, offset: Tensor | None) -> Tensor:
    """`exposure.blur` of [C, H, W]."""
    blur_vector, centre_offset = to_array(vectors), to_offset_array(offset, like=vectors)
    results = [np.empty((*blur_vector.shape[1:], LANES), F) for _ in range(0, len(image), LANES)]
    for part, result in zip(torch.split(image, LANES), results, strict=True):
        _blur(pack(part), centre_offset, blur_vector, result)
    return unpack(results, len(image))


@with_kernel_lock
def blur_adjoint_compiled(image: Tensor, vectors: Tensor, offset: Tensor | None) -> Tensor:
    """`exposure.blur_adjoint` of [C, H, W]."""
    blur_vector, centre_offset = to_array(vectors), to_offset_array(offset, like=vectors)
    bands = BandAccumulators(centre_offset, blur_vector)
    results = []
    for part in torch.split(image, LANES):
        _blur_adjoint(pack(part), centre_offset, blur_vector, bands.sums, bands.first, bands.height)
        results.append(bands.add_to(np.zeros((*image.shape[1:], LANES), F)))
    return unpack(results, len(image))


def pack(image: Tensor) -> Array:
    """[C, H, W], C <= 4, as [H, W, 4]."""
    planes = list(image.detach().contiguous().numpy())
    # Side by side and apart again by OpenCV: a fraction of NumPy's time.
    return np.asarray(cv2.merge(planes + [np.zeros_like(planes[0])] * (LANES - len(planes))), F)


def to_array(vectors: Tensor) -> Array:
    """A field of vectors [2, H, W] as an array."""
    return np.ascontiguousarray(vectors.detach().numpy(), F)


def to_offset_array(offset: Tensor | None, *, like: Tensor) -> Array:
    """Where ways have their middles, [2, H, W]; None is each pixel's own place."""
    return np.zeros(tuple(like.shape), F) if offset is None else to_array(offset)


class BandAccumulators:
    """Accumulators for bands of rows: each covers the rows that its band's light can reach."""

    def __init__(self, centre_offset: Array, blur_vector: Array) -> None:
        rows = centre_offset.shape[1]
        self.height = -(-rows // BANDS)
        count = -(-rows // self.height)
        centre = np.arange(rows, dtype=F)[:, None] + centre_offset[1]
        half_extent = np.maximum(np.abs(blur_vector[1]), 1) / 2 + 1
        starts = np.arange(0, rows, self.height)
        low = np.minimum.reduceat((centre - half_extent).min(1), starts)
        high = np.maximum.reduceat((centre + half_extent).max(1), starts)
        self.first = np.clip(np.floor(low), 0, rows - 1).astype(np.int64)
        last = np.clip(np.ceil(high), 0, rows - 1).astype(np.int64)
        span = int((last - self.first).max()) + 2
        self.sums = np.empty((count, span, centre_offset.shape[2], LANES), F)

    def add_to(self, out: Array) -> Array:
        """Add the bands' sum to `out` [H, W, 4]."""
        _add_bands(self.sums, self.first, out)
        return out


def unpack(parts: list[Array], channels: int) -> Tensor:
    """[H, W, 4] parts as one [C, H, W] picture."""
    planes = np.empty((channels, *parts[0].shape[:2]), F)
    for k, plane in enumerate(planes):
        cv2.extractChannel(parts[k // LANES], k % LANES, plane)
    return torch.from_numpy(planes)


_jit: Any = njit(fastmath=FAST_MATH, error_model="numpy", cache=True)
_jit_parallel: Any = njit(parallel=True, fastmath=FAST_MATH, error_model="numpy", cache=True)
_inline: Any = njit(inline="always", fastmath=FAST_MATH, error_model="numpy")


@_inline
def _segment(x: Any, y: Any, ox: Any, oy: Any, ux: Any, uy: Any) -> Any:  # noqa: PLR0917, PLR0913
    """Major axis, ends of the way along it, its middle across it, slope, and one over its length."""
    flat = abs(ux) >= abs(uy)
    along, across, major, minor = (x + ox, y + oy, ux, uy) if flat else (y + oy, x + ox, uy, ux)
    length = max(abs(major), F(1))
    inverse_length = F(1) / length if length > F(1) else F(1)  # fast division of 1 by 1 need not be 1
    slope = (-minor if major < F(0) else minor) * inverse_length
    half = F(0.5) * length
    return flat, along - half, along + half, across - slope * along, slope, inverse_length


@_inline
def _tap(t: Any, low: Any, high: Any, base: Any, slope: Any, inverse_length: Any) -> Any:  # noqa: PLR0917, PLR0913
    """Place across the way and weight of the part of the way within pixel `t`."""
    first, last = max(F(t) - F(0.5), low), min(F(t) + F(0.5), high)
    return base + slope * (F(0.5) * (first + last)), max(last - first, F(0)) * inverse_length


@_jit_parallel
def _blur(image: Any, centre_offset: Any, blur_vector: Any, out: Any) -> None:
    height, width = image.shape[0], image.shape[1]
    x = image.reshape(-1)
    for row in prange(out.shape[0]):
        acc = np.empty(LANES, F)
        for column in range(out.shape[1]):
            flat, low, high, base, slope, inverse_length = _segment(
                F(column), F(row), centre_offset[0, row, column], centre_offset[1, row, column],
                blur_vector[0, row, column], blur_vector[1, row, column],
            )  # fmt: skip
            last_along, last_across = (width - 1, height - 1) if flat else (height - 1, width - 1)
            step_along, step_across = (LANES, width * LANES) if flat else (width * LANES, LANES)
            acc[:] = F(0)
            for t in range(int(np.floor(low + F(0.5))), int(np.ceil(high - F(0.5))) + 1):
                cross, weight = _tap(t, low, high, base, slope, inverse_length)
                cross = min(max(cross, F(0)), F(last_across))
                lower = int(cross)
                part = (cross - F(lower)) * weight
                p = min(max(t, 0), last_along) * step_along + lower * step_across
                q = p + (step_across if lower < last_across else 0)
                read_pair(acc, x, p, q, weight - part, part)
            for k in range(LANES):
                out[row, column, k] = acc[k]


@_jit_parallel
def _blur_adjoint(  # noqa: PLR0917, PLR0913
    image: Any, centre_offset: Any, blur_vector: Any, sums: Any, first: Any, band_height: Any
) -> None:
    height, width = image.shape[0], image.shape[1]
    for band in prange(sums.shape[0]):
        out = sums[band].reshape(-1)
        out[:] = F(0)
        origin = first[band] * width * LANES
        acc = np.empty(LANES, F)
        for row in range(band * band_height, min(height, (band + 1) * band_height)):
            for column in range(width):
                flat, low, high, base, slope, inverse_length = _segment(
                    F(column), F(row), centre_offset[0, row, column], centre_offset[1, row, column],
                    blur_vector[0, row, column], blur_vector[1, row, column],
                )  # fmt: skip
                last_along, last_across = (width - 1, height - 1) if flat else (height - 1, width - 1)
                step_along, step_across = (LANES, width * LANES) if flat else (width * LANES, LANES)
                for k in range(LANES):
                    acc[k] = image[row, column, k]
                for t in range(int(np.floor(low + F(0.5))), int(np.ceil(high - F(0.5))) + 1):
                    cross, weight = _tap(t, low, high, base, slope, inverse_length)
                    cross = min(max(cross, F(0)), F(last_across))
                    lower = int(cross)
                    part = (cross - F(lower)) * weight
                    p = min(max(t, 0), last_along) * step_along + lower * step_across - origin
                    q = p + (step_across if lower < last_across else 0)
                    write_pair(acc, out, p, q, weight - part, part)


@_jit_parallel
def _add_bands(sums: Any, first: Any, out: Any) -> None:
    height = out.shape[0]
    for row in prange(height):
        for band in range(sums.shape[0]):
            inside = row - first[band]
            if 0 <= inside < sums.shape[1]:
                out[row] += sums[band, inside]
