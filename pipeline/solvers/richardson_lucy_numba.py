"""Richardson-Lucy in compiled kernels: the numbers of `deconvolve.iterate_tensors`, far faster.

Nothing here takes a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from freezeframe.data.blur.operator_numba import LANES, MIN_LINEAR
from freezeframe.data.blur.richardson_lucy_numba import (
    MARGIN,
    ObservationKernelData,
    live_block_integral,
    make_padded,
)
from freezeframe.data.blur.simd4 import FAST_MATH, with_kernel_lock

from .iteration import MAX_MOMENTUM_FACTOR, MIN_RATIO, MOMENTUM, PRIOR_WEIGHT, ordered_subset
from .observation import Observation

BAND = 40  # rows that one thread does in one go
F = np.float32
_jit_parallel: Any = njit(parallel=True, fastmath=FAST_MATH, error_model="numpy", cache=True)
_jit: Any = njit(fastmath=FAST_MATH, error_model="numpy", cache=True)


@with_kernel_lock
def iterate(
    start: Tensor, observations: Sequence[Observation], *, steps: int, step_size: Tensor, tv_weight: float
) -> Tensor:
    """`deconvolve.richardson_lucy` on the CPU."""
    _, height, width = start.shape
    region = live_block_integral(step_size > 0)
    kernel_data = [
        ObservationKernelData(o.linear, o.weight, blur_vector=o.blur_vector, offset=o.offset, region=region)
        for o in observations
    ]
    sharp, adjoint_sum = make_padded(height, width, value=1.0), make_padded(height, width, value=PRIOR_WEIGHT)
    linear = start.clamp_min(float(MIN_LINEAR)).contiguous().numpy()
    _pack(linear, sharp)
    before = sharp.copy()
    step_sizes = np.ascontiguousarray(step_size.numpy(), F)
    buffers = sharp.reshape(-1), adjoint_sum.reshape(-1), before.reshape(-1)
    for step in range(steps):
        for k in ordered_subset(step, steps=steps, count=len(kernel_data)):
            kernel_data[k].backproject(sharp, adjoint_sum)
        _step(*buffers, sharp.shape[1], step_sizes, F(tv_weight))
    return torch.from_numpy(_unpack(sharp, np.empty_like(linear)))


@_jit_parallel
def _pack(image: Any, out: Any) -> None:
    channels, height, width = image.shape
    for row in prange(height):
        for column in range(width):
            for k in range(channels):
                out[row + MARGIN, column + MARGIN, k] = image[k, row, column]


@_jit_parallel
def _unpack(pixels: Any, image: Any) -> Any:
    channels, height, width = image.shape
    for row in prange(height):
        for column in range(width):
            for k in range(channels):
                image[k, row, column] = pixels[row + MARGIN, column + MARGIN, k]
    return image


@_jit_parallel
def _step(sharp: Any, adjoint_sum: Any, before: Any, line: Any, step_size: Any, tv_weight: Any) -> None:  # noqa: PLR0917, PLR0913
    """One multiplicative step, then `deconvolve.calmed`; empties `adjoint_sum`.

    Sheets are flat, `line` pixels wide. In one pass over bands of rows; what bands need to know of their
    neighbours' rows is found out before any row changes.
    """
    height, width = step_size.shape
    count = -(-height // BAND)
    edges = np.empty((count + 1, 2, LANES * width), F)
    for band in prange(1, count):
        for side in range(2):
            row = band * BAND - 1 + side
            here = _span(row, line, width)
            _multiplicative_step(
                sharp[here].copy(),
                adjoint_sum[here].copy(),
                before[here].copy(),
                step_size[row],
                edges[band, side],
            )
    for band in prange(count):
        _step_band(sharp, adjoint_sum, before, line, step_size, tv_weight, band, edges)


@_jit
def _span(row: Any, line: Any, width: Any) -> Any:
    """Where a row of a picture stands in its sheet."""
    first = LANES * ((row + MARGIN) * line + MARGIN)
    return slice(first, first + LANES * width)


@_jit
def _step_band(  # noqa: PLR0917, PLR0913
    sharp: Any,
    adjoint_sum: Any,
    before: Any,
    line: Any,
    step_size: Any,
    tv_weight: Any,
    band: Any,
    edges: Any,
) -> None:
    height, width = step_size.shape
    top, stop = band * BAND, min((band + 1) * BAND, height)
    # The first pixel of `right` stays empty: the slope before the first pixel.
    right, down = np.zeros(LANES * (width + 1), F), np.zeros(LANES * width, F)
    above, here, below = np.zeros(LANES * width, F), np.empty(LANES * width, F), np.empty(LANES * width, F)
    if top > 0:
        _slopes(edges[band, 0], edges[band, 1], right, above)
    span = _span(top, line, width)
    _multiplicative_step(sharp[span], adjoint_sum[span], before[span], step_size[top], here)
    for row in range(top, stop):
        if row + 1 < stop:
            span = _span(row + 1, line, width)
            _multiplicative_step(sharp[span], adjoint_sum[span], before[span], step_size[row + 1], below)
        else:
            below[:] = edges[band + 1, 1] if stop < height else here
        _slopes(here, below, right, down)
        _tv_step(sharp[_span(row, line, width)], step_size[row], tv_weight, right, down, above)
        here, below, above, down = below, here, down, above


@_jit
def _multiplicative_step(sharp: Any, adjoint_sum: Any, before: Any, step_size: Any, root: Any) -> None:
    """The multiplicative step of a row, [4 W] each but `step_size` [W]; `root` becomes its light's square root."""
    size = len(sharp)
    step_sizes, weight_sum, value = np.empty(size, F), np.empty(size, F), np.empty(size, F)
    # Loops of few arrays: those become vectors. In the spare lane all ratios are 1, and it stays 1.
    for column in range(len(step_size)):
        for k in range(LANES):
            step_sizes[LANES * column + k] = step_size[column]
    for column in range(len(step_size)):
        for k in range(LANES):
            weight_sum[LANES * column + k] = adjoint_sum[LANES * column + LANES - 1]
    for f in range(size):
        now, previous = sharp[f], before[f]
        factor = (F(1 - MOMENTUM) * previous + F(1 + MOMENTUM) * now) / (
            F(1 + MOMENTUM) * previous + F(1 - MOMENTUM) * now
        )
        updated = now * max(F(1) + (adjoint_sum[f] / weight_sum[f] - F(1)) * step_sizes[f], F(MIN_RATIO))
        updated *= min(max(factor, F(1 / MAX_MOMENTUM_FACTOR)), F(MAX_MOMENTUM_FACTOR))
        value[f] = updated if step_sizes[f] > F(0) else now
    for f in range(size):
        before[f], sharp[f] = sharp[f], value[f]
    for f in range(size):
        root[f], adjoint_sum[f] = math.sqrt(max(value[f], MIN_LINEAR)), F(PRIOR_WEIGHT)


@_jit
def _slopes(here: Any, below: Any, right: Any, down: Any) -> None:
    """Steps of one row [4 W] to the right and to the row below, over their common length in all colours."""
    size = len(here)
    norm = np.empty(size // LANES, F)
    for f in range(size - LANES):
        right[f + LANES] = here[f + LANES] - here[f]
    right[size:] = F(0)
    for f in range(size):
        down[f] = below[f] - here[f]
    for column in range(len(norm)):
        total = F(1e-4)
        for f in range(LANES * column, LANES * column + LANES):
            total += right[f + LANES] * right[f + LANES] + down[f] * down[f]
        norm[column] = F(1) / math.sqrt(total)
    for column in range(len(norm)):
        for f in range(LANES * column, LANES * column + LANES):
            right[f + LANES] *= norm[column]
            down[f] *= norm[column]


@_jit
def _tv_step(sharp: Any, step_size: Any, tv_weight: Any, right: Any, down: Any, above: Any) -> None:  # noqa: PLR0917, PLR0913
    step_sizes = np.empty(len(sharp), F)
    for column in range(len(step_size)):
        for k in range(LANES):
            step_sizes[LANES * column + k] = tv_weight * step_size[column]
    for f in range(len(sharp)):
        divergence = right[f + LANES] - right[f] + down[f] - above[f]
        sharp[f] /= min(max(F(1) - step_sizes[f] * divergence, F(0.5)), F(2))
