"""Splatting on the CPU, compiled: sort by depth, composite, and the gradients of that.

No tiles: each camera's Gaussians are splatted front to back, each over the exact spans of rows in which its
alpha reaches 1/255. Cameras and bands of rows run in parallel; nothing is written by two threads, so that the
same input gives the same bits on any number of threads.

What is known of each Gaussian is first copied into the order of depth: fetched one by one from all over the
memory it would take longer than everything else.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, prange

from .numba_projection import SORTED_FLOATS
from .simd16 import LANES, PROJECTED_GRADS, colour_at, composite_span, composite_span_gradients

F = np.float32
_HALF, _ONE, _ZERO = F(0.5), F(1), F(0)
_SLACK = F(1e-3)  # pixels by which a span is widened against rounding

_jit: Any = njit(parallel=True, fastmath=True, error_model="numpy", cache=True)
_inline: Any = njit(inline="always", fastmath=True, error_model="numpy")


@_jit
def sort_by_depth(records: Any, radii: Any, order: Any, counts: Any) -> None:
    """Fill `order` [C, N] with the numbers of what each camera sees, nearest first, and `counts` [C].

    Positive floats sort as their bits do: three passes of a radix sort by eleven bits, stable.
    """
    cameras, count = radii.shape
    for c in prange(cameras):
        keys, other_keys = np.empty(count, np.uint32), np.empty(count, np.uint32)
        numbers, other_numbers = np.empty(count, np.int32), np.empty(count, np.int32)
        seen = 0
        for n in range(count):
            if radii[c, n] > 0:
                keys[seen], numbers[seen] = np.float32(records[c, n, 6]).view(np.uint32), n
                seen += 1
        for shift in (np.uint32(0), np.uint32(11), np.uint32(22)):
            starts = np.zeros(2049, np.int64)
            for i in range(seen):
                starts[((keys[i] >> shift) & np.uint32(2047)) + 1] += 1
            for i in range(2048):
                starts[i + 1] += starts[i]
            for i in range(seen):
                bucket = (keys[i] >> shift) & np.uint32(2047)
                place = starts[bucket]
                starts[bucket] = place + 1
                other_keys[place], other_numbers[place] = keys[i], numbers[i]
            keys, other_keys = other_keys, keys
            numbers, other_numbers = other_numbers, numbers
        counts[c] = seen
        for i in range(seen):
            order[c, i] = numbers[i]


@_jit
def gather_sorted(records: Any, colours: Any, order: Any, counts: Any, sorted_records: Any) -> None:
    """Fill `sorted_records` [C, N, SEEN + K] with records and colours [C, N, K], in order."""
    cameras, _, depth = colours.shape
    for c in prange(cameras):
        for i in range(counts[c]):
            n = order[c, i]
            for k in range(SORTED_FLOATS):
                sorted_records[c, i, k] = records[c, n, k]
            for k in range(depth):
                sorted_records[c, i, SORTED_FLOATS + k] = colours[c, n, k]


@_inline
def _rows(r: Any, low: Any, high: Any) -> Any:
    """First and last row of [low, high) that a Gaussian touches."""
    return (
        max(low, math.ceil(r[1] - r[9] - _HALF)),
        min(high - 1, math.floor(r[1] + r[9] - _HALF)),
    )


@_inline
def _box(r: Any, width: Any) -> Any:
    """First and last column that a Gaussian touches in any row."""
    return max(0, math.ceil(r[0] - r[8] - _HALF)), min(width - 1, math.floor(r[0] + r[8] - _HALF))


@_inline
def _span(r: Any, dy: Any, width: Any) -> Any:
    """First and last column of one row in which alpha reaches 1/255."""
    inverse = _ONE / r[2]
    skew = r[3] * dy * inverse
    square = (r[7] - r[4] * dy * dy) * inverse + skew * skew
    if not square > _ZERO:
        return 0, -1
    half, middle = math.sqrt(square) + _SLACK, r[0] + skew - _HALF
    return max(0, math.ceil(middle - half)), min(width - 1, math.floor(middle + half))


@_jit
def composite(  # noqa: PLR0917, PLR0913
    sorted_records: Any, counts: Any, channels: Any, bands: Any, backgrounds: Any, out: Any, alphas: Any
) -> None:
    """Fill `out` [C, K, H, W] and `alphas` [C, H, W]."""
    cameras, depth, height, width = out.shape
    flat, step, stride = sorted_records.reshape(-1), SORTED_FLOATS + depth, width + LANES
    band_height = (height + bands - 1) // bands
    for task in prange(cameras * bands):
        c, low = task // bands, (task % bands) * band_height
        high = min(height, low + band_height)
        size = max(0, high - low) * stride
        transmittance, planes = np.ones(size, F), np.zeros(depth * size, F)
        for i in range(counts[c]):
            r = sorted_records[c, i]
            top, bottom = _rows(r, low, high)
            first, last = _box(r, width)
            narrow = last - first < LANES
            colour = colour_at(flat, (c * sorted_records.shape[1] + i) * step + SORTED_FLOATS, channels)
            mx, my, opacity = r[0] - _HALF, r[1] - _HALF, r[5]
            a, b, half_c = r[2] * _HALF, r[3], r[4] * _HALF
            for row in range(top, bottom + 1):
                dy, start = my - F(row), (row - low) * stride
                if not narrow:
                    first, last = _span(r, dy, width)
                for x in range(first, last + 1, LANES):
                    shape = (mx - F(x), a, b * dy, half_c * dy * dy, opacity)
                    at = start + x
                    composite_span(transmittance, planes, size, at, shape, colour)
        for row in range(low, high):
            at = (row - low) * stride
            for k in range(depth):
                behind, plane = backgrounds[c, k], k * size + at
                for x in range(width):
                    out[c, k, row, x] = planes[plane + x] + abs(transmittance[at + x]) * behind
            for x in range(width):
                alphas[c, row, x] = _ONE - abs(transmittance[at + x])


@_jit
def composite_gradients(  # noqa: PLR0917, PLR0913, PLR0912
    sorted_records: Any, order: Any, counts: Any, channels: Any, bands: Any, out: Any, alphas: Any, by_out: Any,
    by_alpha: Any, gradients: Any,
) -> None:  # fmt: skip
    """Fill `gradients` [bands, C, N, 6 + K], zero before: by what is on the screen, then by colour."""
    cameras, depth, height, width = out.shape
    flat, step, stride = sorted_records.reshape(-1), SORTED_FLOATS + depth, width + LANES
    band_height = (height + bands - 1) // bands
    for task in prange(cameras * bands):
        c, low = task // bands, (task % bands) * band_height
        high = min(height, low + band_height)
        size = max(0, high - low) * stride
        transmittance, behind, upstream = np.ones(size, F), np.zeros(size, F), np.zeros((depth + 1) * size, F)
        sums, total = np.zeros((PROJECTED_GRADS + depth) * LANES, F), np.zeros(PROJECTED_GRADS + depth, F)
        for row in range(low, high):
            at = (row - low) * stride
            plane = depth * size + at
            for x in range(width):
                upstream[plane + x] = by_alpha[c, row, x]
                behind[at + x] = by_alpha[c, row, x] * alphas[c, row, x]
            for k in range(depth):
                plane = k * size + at
                for x in range(width):
                    upstream[plane + x] = by_out[c, k, row, x]
                    behind[at + x] += by_out[c, k, row, x] * out[c, k, row, x]
        for i in range(counts[c]):
            r = sorted_records[c, i]
            top, bottom = _rows(r, low, high)
            if top > bottom:
                continue
            first, last = _box(r, width)
            narrow = last - first < LANES
            colour = colour_at(flat, (c * sorted_records.shape[1] + i) * step + SORTED_FLOATS, channels)
            mx, my, opacity = r[0] - _HALF, r[1] - _HALF, r[5]
            a, b, half_c = r[2] * _HALF, r[3], r[4] * _HALF
            sums[:] = _ZERO
            for row in range(top, bottom + 1):
                dy, start = my - F(row), (row - low) * stride
                if not narrow:
                    first, last = _span(r, dy, width)
                for x in range(first, last + 1, LANES):
                    shape = (mx - F(x), a, b * dy, half_c * dy * dy, opacity)
                    at = start + x
                    composite_span_gradients(
                        transmittance, behind, upstream, size, at, shape, dy, colour, sums
                    )  # fmt: skip
            for k in range(PROJECTED_GRADS + depth):
                lanes = _ZERO
                for lane in range(LANES):
                    lanes += sums[k * LANES + lane]
                total[k] = lanes
            g = gradients[task % bands, c, order[c, i]]
            g[0] = r[2] * total[1] + r[3] * total[3]
            g[1] = r[3] * total[1] + r[4] * total[3]
            g[2], g[3], g[4] = _HALF * total[2], total[4], _HALF * total[5]
            g[5] = -total[0] / opacity
            for k in range(depth):
                g[PROJECTED_GRADS + k] = total[PROJECTED_GRADS + k]
