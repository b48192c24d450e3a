"""The blur operator and its adjoint, compiled for the CPU.

Images are [H, W, 4] float32, the fourth channel spare; fields are [2, H, W]. The adjoint scatters in bands of
rows, each into an accumulator of its own: no two threads write to one address, and the sum is the same on any
number of threads.

Nothing here takes a gradient.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from numba import prange
from torch import Tensor

from freezeframe.data.kernels.numba_jit import FAST_MATH, cached_jit, inline_jit, with_kernel_lock

from .intrinsics_numba import CHANNELS, gather_pair, load_pixel, scatter_pair, store_pixel, zero_pixel

Array = npt.NDArray[np.float32]

BANDS = 16
F = np.float32


class Segment(NamedTuple):
    """The line from which one pixel of the blurred image is averaged, along and across its major axis."""

    flat: Any  # the major axis is the row
    low: Any  # ends along the major axis, pixels
    high: Any
    base: Any  # position across where that along is 0
    slope: Any  # across per along
    inverse_length: Any  # one over high - low


class Bands(NamedTuple):
    """Accumulators of the adjoint."""

    sums: Any  # [bands, rows, W, 4]
    first: Any  # [bands] row of the image at which each accumulator begins
    height: Any  # rows of the input in one band


@with_kernel_lock
def blur_compiled(image: Tensor, vectors: Tensor, offset: Tensor | None) -> Tensor:
    """`operator.blur` of [C, H, W]."""
    blur_vector, centre_offset = to_array(vectors), to_offset_array(offset, like=vectors)
    results = [np.empty((*blur_vector.shape[1:], CHANNELS), F) for _ in range(0, len(image), CHANNELS)]
    for part, result in zip(torch.split(image, CHANNELS), results, strict=True):
        blur_kernel(pack(part), centre_offset, blur_vector, result)
    return unpack(results, len(image))


@with_kernel_lock
def blur_adjoint_compiled(image: Tensor, vectors: Tensor, offset: Tensor | None) -> Tensor:
    """`operator.blur_adjoint` of [C, H, W]."""
    blur_vector, centre_offset = to_array(vectors), to_offset_array(offset, like=vectors)
    bands = make_bands(centre_offset, blur_vector)
    results = []
    for part in torch.split(image, CHANNELS):
        result = np.zeros((*image.shape[1:], CHANNELS), F)
        blur_adjoint_kernel(pack(part), centre_offset, blur_vector, bands)
        add_bands(bands, result)
        results.append(result)
    return unpack(results, len(image))


def pack(image: Tensor) -> Array:
    """[C, H, W], C <= 4, as [H, W, 4]."""
    planes = list(image.detach().contiguous().numpy())
    # OpenCV interleaves and separates channels in a fraction of NumPy's time.
    return np.asarray(cv2.merge(planes + [np.zeros_like(planes[0])] * (CHANNELS - len(planes))), F)


def unpack(parts: list[Array], channels: int) -> Tensor:
    """[H, W, 4] parts as one image [C, H, W]."""
    planes = np.empty((channels, *parts[0].shape[:2]), F)
    for k, plane in enumerate(planes):
        cv2.extractChannel(parts[k // CHANNELS], k % CHANNELS, plane)
    return torch.from_numpy(planes)


def to_array(vectors: Tensor) -> Array:
    """A field of vectors [2, H, W] as an array."""
    return np.ascontiguousarray(vectors.detach().numpy(), F)


def to_offset_array(offset: Tensor | None, *, like: Tensor) -> Array:
    """Offsets of the blur vectors' centres [2, H, W]; None is zero."""
    return np.zeros(tuple(like.shape), F) if offset is None else to_array(offset)


def make_bands(centre_offset: Array, blur_vector: Array) -> Bands:
    """Accumulators for bands of rows, each of the rows that its band can reach."""
    rows = centre_offset.shape[1]
    height = -(-rows // BANDS)
    count = -(-rows // height)
    centre = np.arange(rows, dtype=F)[:, None] + centre_offset[1]
    half_extent = np.maximum(np.abs(blur_vector[1]), 1) / 2 + 1
    starts = np.arange(0, rows, height)
    low = np.minimum.reduceat((centre - half_extent).min(1), starts)
    high = np.maximum.reduceat((centre + half_extent).max(1), starts)
    first = np.clip(np.floor(low), 0, rows - 1).astype(np.int64)
    last = np.clip(np.ceil(high), 0, rows - 1).astype(np.int64)
    span = int((last - first).max()) + 2
    return Bands(np.empty((count, span, centre_offset.shape[2], CHANNELS), F), first, height)


jit: Any = cached_jit(fastmath=FAST_MATH)
jit_parallel: Any = cached_jit(fastmath=FAST_MATH, parallel=True)
inline: Any = inline_jit(fastmath=FAST_MATH)


@inline
def segment_of(x: Any, y: Any, ux: Any, uy: Any) -> Segment:
    """Segment of the blur vector (ux, uy) centred on (x, y)."""
    flat = abs(ux) >= abs(uy)
    along, across, major, minor = (x, y, ux, uy) if flat else (y, x, uy, ux)
    length = max(abs(major), F(1))
    inverse_length = F(1) / length if length > F(1) else F(1)  # fast division of 1 by 1 need not be 1
    slope = (-minor if major < F(0) else minor) * inverse_length
    half = F(0.5) * length
    return Segment(flat, along - half, along + half, across - slope * along, slope, inverse_length)


@inline
def tap_range(segment: Any) -> Any:
    """First and last pixel, along the major axis, that the segment touches."""
    return int(np.floor(segment.low + F(0.5))), int(np.ceil(segment.high - F(0.5)))


@inline
def tap(t: Any, segment: Any, last_across: Any) -> Any:
    """Pixel across the segment at pixel `t` along it, and the weights of this pixel and of the next."""
    begin, end = max(F(t) - F(0.5), segment.low), min(F(t) + F(0.5), segment.high)
    weight = max(end - begin, F(0)) * segment.inverse_length
    cross = segment.base + segment.slope * (F(0.5) * (begin + end))
    cross = min(max(cross, F(0)), F(last_across))
    lower = int(cross)
    next_weight = (cross - F(lower)) * weight
    return lower, weight - next_weight, next_weight


@jit_parallel
def blur_kernel(image: Any, centre_offset: Any, blur_vector: Any, out: Any) -> None:
    """Fill `out` [H', W', 4] from `image` [H, W, 4]."""
    height, width = image.shape[0], image.shape[1]
    x, flat_out = image.reshape(-1), out.reshape(-1)
    for row in prange(out.shape[0]):
        for column in range(out.shape[1]):
            segment = segment_of(
                F(column) + centre_offset[0, row, column], F(row) + centre_offset[1, row, column],
                blur_vector[0, row, column], blur_vector[1, row, column],
            )  # fmt: skip
            last_along, last_across = (width - 1, height - 1) if segment.flat else (height - 1, width - 1)
            step_along, step_across = (
                (CHANNELS, width * CHANNELS) if segment.flat else (width * CHANNELS, CHANNELS)
            )
            acc = zero_pixel()
            first, last = tap_range(segment)
            for t in range(first, last + 1):
                lower, weight, next_weight = tap(t, segment, last_across)
                p = min(max(t, 0), last_along) * step_along + lower * step_across
                q = p + (step_across if lower < last_across else 0)
                gather_pair(acc, x, p, q, weight, next_weight)
            store_pixel(acc, flat_out, (row * out.shape[1] + column) * CHANNELS)


@jit_parallel
def blur_adjoint_kernel(image: Any, centre_offset: Any, blur_vector: Any, bands: Any) -> None:
    """Fill the accumulators `bands` from `image` [H, W, 4]."""
    height, width = image.shape[0], image.shape[1]
    sums, firsts, band_height = bands.sums, bands.first, bands.height
    x = image.reshape(-1)
    for band in prange(sums.shape[0]):
        out = sums[band].reshape(-1)
        out[:] = F(0)
        origin = firsts[band] * width * CHANNELS
        for row in range(band * band_height, min(height, (band + 1) * band_height)):
            for column in range(width):
                segment = segment_of(
                    F(column) + centre_offset[0, row, column], F(row) + centre_offset[1, row, column],
                    blur_vector[0, row, column], blur_vector[1, row, column],
                )  # fmt: skip
                last_along, last_across = (width - 1, height - 1) if segment.flat else (height - 1, width - 1)
                step_along, step_across = (
                    (CHANNELS, width * CHANNELS) if segment.flat else (width * CHANNELS, CHANNELS)
                )
                acc = load_pixel(x, (row * width + column) * CHANNELS)
                first, last = tap_range(segment)
                for t in range(first, last + 1):
                    lower, weight, next_weight = tap(t, segment, last_across)
                    p = min(max(t, 0), last_along) * step_along + lower * step_across - origin
                    q = p + (step_across if lower < last_across else 0)
                    scatter_pair(acc, out, p, q, weight, next_weight)


@jit_parallel
def add_bands(bands: Any, out: Any) -> None:
    """Add the accumulators to `out` [H, W, 4]."""
    sums, firsts = bands.sums, bands.first
    for row in prange(out.shape[0]):
        for band in range(sums.shape[0]):
            inside = row - firsts[band]
            if 0 <= inside < sums.shape[1]:
                out[row] += sums[band, inside]
