"""Richardson-Lucy in compiled kernels: the numbers of `richardson_lucy_torch` on the CPU, far faster.

Nothing here takes a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import prange
from torch import Tensor

from freezeframe.data.blur.intrinsics_numba import CHANNELS
from freezeframe.data.blur.operator import MIN_LINEAR
from freezeframe.data.blur.richardson_lucy_numba import (
    MARGIN,
    ObservationKernelData,
    live_block_integral,
    make_padded,
)
from freezeframe.data.kernels.numba_jit import FAST_MATH, cached_jit, with_kernel_lock

from .iteration import DEFAULT_PARAMS, RichardsonLucyParams, ordered_subset
from .observation import Observation

BAND = 40  # rows of one parallel task
F = np.float32
_jit_parallel: Any = cached_jit(fastmath=FAST_MATH, parallel=True)
_jit: Any = cached_jit(fastmath=FAST_MATH)


class _Images(NamedTuple):
    """Padded images [rows, columns, 4] as flat arrays."""

    sharp: Any
    adjoint_sum: Any
    before: Any  # the sharp image one step ago
    line: Any  # pixels from one line to the next


class _StepParams(NamedTuple):
    """`RichardsonLucyParams`, as far as the kernels take them."""

    tv_weight: Any
    min_ratio: Any
    momentum: Any
    max_momentum_factor: Any
    prior_weight: Any


@with_kernel_lock
def richardson_lucy_numba(
    start: Tensor,
    observations: Sequence[Observation],
    *,
    steps: int,
    step_size: Tensor,
    params: RichardsonLucyParams = DEFAULT_PARAMS,
) -> Tensor:
    """`richardson_lucy` on the CPU, without its copy of frozen pixels."""
    _, height, width = start.shape
    region = live_block_integral(step_size > 0)
    kernel_data = [
        ObservationKernelData(o.linear, o.weight, blur_vector=o.blur_vector, offset=o.offset, region=region)
        for o in observations
    ]
    sharp = make_padded(height, width, value=1.0)
    adjoint_sum = make_padded(height, width, value=params.prior_weight)
    linear = start.clamp_min(MIN_LINEAR).contiguous().numpy()
    _pack(linear, sharp)
    step_sizes = np.ascontiguousarray(step_size.numpy(), F)
    images = _Images(
        sharp=sharp.reshape(-1),
        adjoint_sum=adjoint_sum.reshape(-1),
        before=sharp.copy().reshape(-1),
        line=sharp.shape[1],
    )
    step_params = _StepParams(*(float(getattr(params, field)) for field in _StepParams._fields))
    for step in range(steps):
        subset = ordered_subset(
            step, steps=steps, count=len(kernel_data), full_subset_steps=params.full_subset_steps
        )
        for k in subset:
            kernel_data[k].backproject(sharp, adjoint_sum)
        _step(images, step_sizes, step_params)
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
def _step(images: Any, step_size: Any, params: Any) -> None:
    """One multiplicative step, then `tv_step`; resets the adjoint sum to the prior's weight.

    One pass over bands of rows. The rows beside the limits of bands are computed first, before any row
    changes.
    """
    height, width = step_size.shape
    count = -(-height // BAND)
    edges = np.empty((count + 1, 2, CHANNELS * width), F)
    for band in prange(1, count):
        for side in range(2):
            row = band * BAND - 1 + side
            here = _span(row, images.line, width)
            _multiplicative_step(
                (images.sharp[here].copy(), images.adjoint_sum[here].copy(), images.before[here].copy()),
                step_size[row],
                edges[band, side],
                params,
            )
    for band in prange(count):
        _step_band(images, step_size, params, band, edges)


@_jit
def _span(row: Any, line: Any, width: Any) -> Any:
    """Slice of a row of the image in its padded, flat array."""
    first = CHANNELS * ((row + MARGIN) * line + MARGIN)
    return slice(first, first + CHANNELS * width)


@_jit
def _step_band(images: Any, step_size: Any, params: Any, band: Any, edges: Any) -> None:
    height, width = step_size.shape
    top, stop = band * BAND, min((band + 1) * BAND, height)
    # The first pixel of `right` stays 0: the slope before the first column.
    right, down = np.zeros(CHANNELS * (width + 1), F), np.zeros(CHANNELS * width, F)
    above, here, below = (
        np.zeros(CHANNELS * width, F),
        np.empty(CHANNELS * width, F),
        np.empty(CHANNELS * width, F),
    )
    if top > 0:
        _slopes(edges[band, 0], edges[band, 1], right, above)
    span = _span(top, images.line, width)
    _multiplicative_step(_rows(images, span), step_size[top], here, params)
    for row in range(top, stop):
        if row + 1 < stop:
            span = _span(row + 1, images.line, width)
            _multiplicative_step(_rows(images, span), step_size[row + 1], below, params)
        else:
            below[:] = edges[band + 1, 1] if stop < height else here
        _slopes(here, below, right, down)
        tv_step_size = F(params.tv_weight) * step_size[row]
        _tv_step(images.sharp[_span(row, images.line, width)], tv_step_size, (right, down, above))
        here, below, above, down = below, here, down, above


@_jit
def _rows(images: Any, span: Any) -> Any:
    return images.sharp[span], images.adjoint_sum[span], images.before[span]


@_jit
def _multiplicative_step(rows: Any, step_size: Any, root: Any, params: Any) -> None:
    """The multiplicative step of a row; fills `root` [4 W] with the square root of its light.

    Args (inside numba):
        rows: Sharp image, adjoint sum and previous sharp image, [4 W] each.
        step_size: [W].
        root: [4 W].
        params: `_StepParams`.
    """
    sharp, adjoint_sum, before = rows
    slower, faster = F(1 - params.momentum), F(1 + params.momentum)
    min_factor, max_factor = F(1 / params.max_momentum_factor), F(params.max_momentum_factor)
    min_ratio, prior_weight = F(params.min_ratio), F(params.prior_weight)
    size = len(sharp)
    step_sizes, weight_sum, value = np.empty(size, F), np.empty(size, F), np.empty(size, F)
    # Loops over few arrays: LLVM vectorises those. In the spare channel all ratios are 1, and it stays 1.
    for column in range(len(step_size)):
        for k in range(CHANNELS):
            step_sizes[CHANNELS * column + k] = step_size[column]
    for column in range(len(step_size)):
        for k in range(CHANNELS):
            weight_sum[CHANNELS * column + k] = adjoint_sum[CHANNELS * column + CHANNELS - 1]
    for f in range(size):
        now, previous = sharp[f], before[f]
        factor = (slower * previous + faster * now) / (faster * previous + slower * now)
        updated = now * max(F(1) + (adjoint_sum[f] / weight_sum[f] - F(1)) * step_sizes[f], min_ratio)
        updated *= min(max(factor, min_factor), max_factor)
        value[f] = updated if step_sizes[f] > F(0) else now
    for f in range(size):
        before[f], sharp[f] = sharp[f], value[f]
    for f in range(size):
        root[f], adjoint_sum[f] = math.sqrt(max(value[f], F(MIN_LINEAR))), prior_weight


@_jit
def _slopes(here: Any, below: Any, right: Any, down: Any) -> None:
    """Differences of a row [4 W] to the right and to the row below, over their common norm in all colours."""
    size = len(here)
    norm = np.empty(size // CHANNELS, F)
    for f in range(size - CHANNELS):
        right[f + CHANNELS] = here[f + CHANNELS] - here[f]
    right[size:] = F(0)
    for f in range(size):
        down[f] = below[f] - here[f]
    for column in range(len(norm)):
        total = F(1e-4)
        for f in range(CHANNELS * column, CHANNELS * column + CHANNELS):
            total += right[f + CHANNELS] * right[f + CHANNELS] + down[f] * down[f]
        norm[column] = F(1) / math.sqrt(total)
    for column in range(len(norm)):
        for f in range(CHANNELS * column, CHANNELS * column + CHANNELS):
            right[f + CHANNELS] *= norm[column]
            down[f] *= norm[column]


@_jit
def _tv_step(sharp: Any, step_size: Any, slopes: Any) -> None:
    """Divide a row [4 W] by 1 - step size [W] times the divergence of the slopes (right, down, above)."""
    right, down, above = slopes
    step_sizes = np.empty(len(sharp), F)
    for column in range(len(step_size)):
        for k in range(CHANNELS):
            step_sizes[CHANNELS * column + k] = step_size[column]
    for f in range(len(sharp)):
        divergence = right[f + CHANNELS] - right[f] + down[f] - above[f]
        sharp[f] /= min(max(F(1) - step_sizes[f] * divergence, F(0.5)), F(2))
