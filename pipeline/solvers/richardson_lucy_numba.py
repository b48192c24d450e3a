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

from freezeframe.data.blur.operator_numba import DARK, LANES
from freezeframe.data.blur.richardson_lucy_numba import MARGIN, Witness, counts, sheet
from freezeframe.data.blur.simd4 import FINITE, one_at_a_time

from .iteration import FARTHEST, LEAST, MOMENTUM, UNSEEN, asked
from .observation import Observation

BAND = 40  # rows that one thread does in one go
F = np.float32
_jit_parallel: Any = njit(parallel=True, fastmath=FINITE, error_model="numpy", cache=True)
_jit: Any = njit(fastmath=FINITE, error_model="numpy", cache=True)


@one_at_a_time
def iterate(
    start: Tensor, observations: Sequence[Observation], *, steps: int, pace: Tensor, smooth: float
) -> Tensor:
    """`deconvolve.richardson_lucy` on the CPU."""
    _, height, width = start.shape
    wanted = counts(pace > 0)
    witnesses = [Witness(o.light, o.belief, way=o.way, offset=o.offset, wanted=wanted) for o in observations]
    sharp, gathered = sheet(height, width, value=1.0), sheet(height, width, value=UNSEEN)
    light = start.clamp_min(float(DARK)).contiguous().numpy()
    _pack(light, sharp)
    before = sharp.copy()
    speed = np.ascontiguousarray(pace.numpy(), F)
    pictures = sharp.reshape(-1), gathered.reshape(-1), before.reshape(-1)
    for step in range(steps):
        for k in asked(step, steps=steps, count=len(witnesses)):
            witnesses[k].hand_back(sharp, gathered)
        _advance(*pictures, sharp.shape[1], speed, F(smooth))
    return torch.from_numpy(_unpack(sharp, np.empty_like(light)))


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
def _advance(sharp: Any, gathered: Any, before: Any, line: Any, pace: Any, smooth: Any) -> None:  # noqa: PLR0917, PLR0913
    """One multiplicative step, then `deconvolve.calmed`; empties `gathered`.

    Sheets are flat, `line` pixels wide. In one pass over bands of rows; what bands need to know of their
    neighbours' rows is found out before any row changes.
    """
    height, width = pace.shape
    count = -(-height // BAND)
    edges = np.empty((count + 1, 2, LANES * width), F)
    for band in prange(1, count):
        for side in range(2):
            row = band * BAND - 1 + side
            here = _span(row, line, width)
            _push(
                sharp[here].copy(), gathered[here].copy(), before[here].copy(), pace[row], edges[band, side]
            )
    for band in prange(count):
        _advance_band(sharp, gathered, before, line, pace, smooth, band, edges)


@_jit
def _span(row: Any, line: Any, width: Any) -> Any:
    """Where a row of a picture stands in its sheet."""
    first = LANES * ((row + MARGIN) * line + MARGIN)
    return slice(first, first + LANES * width)


@_jit
def _advance_band(  # noqa: PLR0917, PLR0913
    sharp: Any, gathered: Any, before: Any, line: Any, pace: Any, smooth: Any, band: Any, edges: Any
) -> None:
    height, width = pace.shape
    top, stop = band * BAND, min((band + 1) * BAND, height)
    # The first pixel of `right` stays empty: the slope before the first pixel.
    right, down = np.zeros(LANES * (width + 1), F), np.zeros(LANES * width, F)
    above, here, below = np.zeros(LANES * width, F), np.empty(LANES * width, F), np.empty(LANES * width, F)
    if top > 0:
        _slopes(edges[band, 0], edges[band, 1], right, above)
    span = _span(top, line, width)
    _push(sharp[span], gathered[span], before[span], pace[top], here)
    for row in range(top, stop):
        if row + 1 < stop:
            span = _span(row + 1, line, width)
            _push(sharp[span], gathered[span], before[span], pace[row + 1], below)
        else:
            below[:] = edges[band + 1, 1] if stop < height else here
        _slopes(here, below, right, down)
        _calm(sharp[_span(row, line, width)], pace[row], smooth, right, down, above)
        here, below, above, down = below, here, down, above


@_jit
def _push(sharp: Any, gathered: Any, before: Any, pace: Any, root: Any) -> None:
    """The multiplicative step of a row, [4 W] each but `pace` [W]; `root` becomes its light's square root."""
    size = len(sharp)
    speed, told, value = np.empty(size, F), np.empty(size, F), np.empty(size, F)
    # Loops of few arrays: those become vectors. In the spare lane all ratios are 1, and it stays 1.
    for column in range(len(pace)):
        for k in range(LANES):
            speed[LANES * column + k] = pace[column]
    for column in range(len(pace)):
        for k in range(LANES):
            told[LANES * column + k] = gathered[LANES * column + LANES - 1]
    for f in range(size):
        now, then = sharp[f], before[f]
        carried = (F(1 - MOMENTUM) * then + F(1 + MOMENTUM) * now) / (
            F(1 + MOMENTUM) * then + F(1 - MOMENTUM) * now
        )
        pushed = now * max(F(1) + (gathered[f] / told[f] - F(1)) * speed[f], F(LEAST))
        pushed *= min(max(carried, F(1 / FARTHEST)), F(FARTHEST))
        value[f] = pushed if speed[f] > F(0) else now
    for f in range(size):
        before[f], sharp[f] = sharp[f], value[f]
    for f in range(size):
        root[f], gathered[f] = math.sqrt(max(value[f], DARK)), F(UNSEEN)


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
def _calm(sharp: Any, pace: Any, smooth: Any, right: Any, down: Any, above: Any) -> None:  # noqa: PLR0917, PLR0913
    speed = np.empty(len(sharp), F)
    for column in range(len(pace)):
        for k in range(LANES):
            speed[LANES * column + k] = smooth * pace[column]
    for f in range(len(sharp)):
        spread = right[f + LANES] - right[f] + down[f] - above[f]
        sharp[f] /= min(max(F(1) - speed[f] * spread, F(0.5)), F(2))
