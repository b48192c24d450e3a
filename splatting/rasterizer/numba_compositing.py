"""Depth sorting and alpha compositing on the CPU, compiled, and their gradients.

No tiles: each camera's Gaussians are composited front to back, each over the exact spans of rows in which its
alpha reaches 1/255. Cameras and bands of rows run in parallel. No two threads write to one address, so that
the same input gives the same bits on any number of threads.

The records are first copied into order of depth: fetching them one by one from scattered addresses would take
longer than everything else.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import prange

from freezeframe.data.kernels.numba_jit import cached_jit, inline_jit

from . import record_fields as field
from .numba_intrinsics import LANES, PROJECTED_GRADS, colour_at, composite_span, composite_span_gradients
from .record_fields import SORTED_FLOATS

F = np.float32
_HALF, _ONE, _ZERO = F(0.5), F(1), F(0)
_SLACK = F(1e-3)  # pixels by which a span is widened against rounding

_jit: Any = cached_jit(fastmath=True, parallel=True)
_inline: Any = inline_jit(fastmath=True)


class Sorted(NamedTuple):
    """Gaussians of every camera in order of depth."""

    records: Any  # [C, N, SORTED_FLOATS + K]: record, then colour
    counts: Any  # [C] Gaussians that the camera sees
    channels: Any  # a tuple of K zeros: its type gives the number of channels


class Images(NamedTuple):
    """Composited images, or the gradients by them."""

    pixels: Any  # [C, K, H, W]
    alphas: Any  # [C, H, W]


@_jit
def sort_by_depth(records: Any, radii: Any, order: Any, counts: Any) -> None:
    """Fill `order` [C, N] with the indices of each camera's visible Gaussians, nearest first, and `counts`.

    Positive floats sort like their bit patterns: three passes of a stable radix sort by eleven bits.
    """
    cameras, count = radii.shape
    for c in prange(cameras):
        keys, other_keys = np.empty(count, np.uint32), np.empty(count, np.uint32)
        numbers, other_numbers = np.empty(count, np.int32), np.empty(count, np.int32)
        visible = 0
        for n in range(count):
            if radii[c, n] > 0:
                keys[visible], numbers[visible] = np.float32(records[c, n, field.DEPTH]).view(np.uint32), n
                visible += 1
        for shift in (np.uint32(0), np.uint32(11), np.uint32(22)):
            starts = np.zeros(2049, np.int64)
            for i in range(visible):
                starts[((keys[i] >> shift) & np.uint32(2047)) + 1] += 1
            for i in range(2048):
                starts[i + 1] += starts[i]
            for i in range(visible):
                bucket = (keys[i] >> shift) & np.uint32(2047)
                position = starts[bucket]
                starts[bucket] = position + 1
                other_keys[position], other_numbers[position] = keys[i], numbers[i]
            keys, other_keys = other_keys, keys
            numbers, other_numbers = other_numbers, numbers
        counts[c] = visible
        for i in range(visible):
            order[c, i] = numbers[i]


@_jit
def gather_sorted(records: Any, colours: Any, order: Any, counts: Any, sorted_records: Any) -> None:
    """Fill `sorted_records` [C, N, SORTED_FLOATS + K] with records and colours [C, N, K], in order."""
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
        max(low, math.ceil(r[field.MEAN_Y] - r[field.EXTENT_Y] - _HALF)),
        min(high - 1, math.floor(r[field.MEAN_Y] + r[field.EXTENT_Y] - _HALF)),
    )


@_inline
def _box(r: Any, width: Any) -> Any:
    """First and last column that a Gaussian touches in any row."""
    return (
        max(0, math.ceil(r[field.MEAN_X] - r[field.EXTENT_X] - _HALF)),
        min(width - 1, math.floor(r[field.MEAN_X] + r[field.EXTENT_X] - _HALF)),
    )


@_inline
def _span(r: Any, dy: Any, width: Any) -> Any:
    """First and last column of one row in which alpha reaches 1/255."""
    inverse = _ONE / r[field.CONIC_A]
    skew = r[field.CONIC_B] * dy * inverse
    square = (r[field.POWER] - r[field.CONIC_C] * dy * dy) * inverse + skew * skew
    if not square > _ZERO:
        return 0, -1
    half, middle = math.sqrt(square) + _SLACK, r[field.MEAN_X] + skew - _HALF
    return max(0, math.ceil(middle - half)), min(width - 1, math.floor(middle + half))


@_jit
def composite(gaussians: Any, bands: Any, backgrounds: Any, images: Any) -> None:
    """Fill `images` with the sorted Gaussians over `backgrounds` [C, K], by `bands` bands of rows."""
    sorted_records, counts, channels = gaussians.records, gaussians.counts, gaussians.channels
    out, alphas = images.pixels, images.alphas
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
            mx, my, opacity = r[field.MEAN_X] - _HALF, r[field.MEAN_Y] - _HALF, r[field.OPACITY]
            a, b, half_c = r[field.CONIC_A] * _HALF, r[field.CONIC_B], r[field.CONIC_C] * _HALF
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


@_inline
def _write_gradients(g: Any, r: Any, sums: Any, total: Any) -> None:
    """Sum over lanes, then apply the chain rule from the exponent to the mean, the conic and the opacity."""
    for k in range(len(total)):
        lanes = _ZERO
        for lane in range(LANES):
            lanes += sums[k * LANES + lane]
        total[k] = lanes
    g[0] = r[field.CONIC_A] * total[1] + r[field.CONIC_B] * total[3]
    g[1] = r[field.CONIC_B] * total[1] + r[field.CONIC_C] * total[3]
    g[2], g[3], g[4] = _HALF * total[2], total[4], _HALF * total[5]
    g[5] = -total[0] / r[field.OPACITY]
    for k in range(PROJECTED_GRADS, len(total)):
        g[k] = total[k]


@_jit
def composite_gradients(
    gaussians: Any, order: Any, images: Any, upstream_images: Any, gradients: Any
) -> None:
    """Fill `gradients` [bands, C, N, 6 + K], zero before: by the projected Gaussians, then by colour.

    Args (inside numba):
        gaussians: `Sorted`.
        order: [C, N] index of each sorted Gaussian.
        images: `Images` as composited.
        upstream_images: Gradients by `images`.
        gradients: The result; its bands are summed by the caller, in order.
    """
    sorted_records, counts, channels = gaussians.records, gaussians.counts, gaussians.channels
    out, alphas = images.pixels, images.alphas
    by_out, by_alpha = upstream_images.pixels, upstream_images.alphas
    bands = gradients.shape[0]
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
            mx, my, opacity = r[field.MEAN_X] - _HALF, r[field.MEAN_Y] - _HALF, r[field.OPACITY]
            a, b, half_c = r[field.CONIC_A] * _HALF, r[field.CONIC_B], r[field.CONIC_C] * _HALF
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
            _write_gradients(gradients[task % bands, c, order[c, i]], r, sums, total)
