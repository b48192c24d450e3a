"""Richardson-Lucy in compiled kernels: the numbers of `deconvolve.iterate_tensors`, far faster."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from ..data.exposure_kernels import DARK
from ..data.exposure_step import MARGIN, Witness, counts, sheet
from .deconvolve import FARTHEST, LEAST, MOMENTUM, UNSEEN, Observation, asked

BAND = 24  # rows that one thread calms in one go
F = np.float32
_jit_parallel: Any = njit(parallel=True, fastmath=True, error_model="numpy", cache=True)
_jit: Any = njit(fastmath=True, error_model="numpy", cache=True)


def iterate(
    start: Tensor, observations: Sequence[Observation], *, steps: int, pace: Tensor, smooth: float
) -> Tensor:
    """`deconvolve.richardson_lucy` on the CPU."""
    _, height, width = start.shape
    wanted = counts(pace > 0)
    witnesses = [Witness(o.light, o.belief, way=o.way, offset=o.offset, wanted=wanted) for o in observations]
    sharp, gathered = sheet(height, width, value=1.0), sheet(height, width, value=UNSEEN)
    before = np.maximum(start.numpy(), DARK)
    root = np.sqrt(before)
    _pack(before, sharp)
    speed = np.ascontiguousarray(pace.numpy(), F)
    for step in range(steps):
        for k in asked(step, steps=steps, count=len(witnesses)):
            witnesses[k].hand_back(sharp, gathered)
        _advance(sharp, gathered, speed, (root, before))
        if smooth > 0:
            _calm(sharp, root, speed, F(smooth))
    return torch.from_numpy(_unpack(sharp, root))


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
def _advance(sharp: Any, gathered: Any, pace: Any, planes: Any) -> None:
    """One multiplicative step, and the square root of its result, [C, H, W]; empties `gathered`."""
    root, before = planes
    channels, height, width = root.shape
    for row in prange(height):
        y = row + MARGIN
        for column in range(width):
            x = column + MARGIN
            speed, every = pace[row, column], F(1) / gathered[y, x, channels]
            # The square root of what is left alone is still that of the start.
            for k in range(channels if speed > F(0) else 0):
                now, change = sharp[y, x, k], gathered[y, x, k] * every - F(1)
                then = before[k, row, column]
                carried = (F(1 - MOMENTUM) * then + F(1 + MOMENTUM) * now) / (
                    F(1 + MOMENTUM) * then + F(1 - MOMENTUM) * now
                )
                value = now * max(F(1) + change * speed, F(LEAST))
                value *= min(max(carried, F(1 / FARTHEST)), F(FARTHEST))
                before[k, row, column] = now
                sharp[y, x, k] = value
                root[k, row, column] = math.sqrt(max(value, DARK))
            for k in range(gathered.shape[2]):
                gathered[y, x, k] = F(UNSEEN)


@_jit_parallel
def _calm(sharp: Any, root: Any, pace: Any, smooth: Any) -> None:
    """`deconvolve.calmed` in bands of rows; the slopes down to a row are kept from the one above."""
    channels, height, width = root.shape
    for band in prange(-(-height // BAND)):
        right, down = np.zeros((channels, width + 1), F), np.zeros((channels, width), F)
        above, norm = np.zeros((channels, width), F), np.empty(width, F)
        top = band * BAND
        if top > 0:
            _slopes(root, top - 1, right, above, norm)
        for row in range(top, min(top + BAND, height)):
            _slopes(root, row, right, down, norm)
            for k in range(channels):
                for column in range(width):
                    # The first entry of `right` stays empty: the slope before the first pixel.
                    spread = right[k, column + 1] - right[k, column] + down[k, column] - above[k, column]
                    change = F(1) - smooth * pace[row, column] * spread
                    above[k, column] = down[k, column]
                    norm[column] = F(1) / min(max(change, F(0.5)), F(2))
                for column in range(width):
                    sharp[row + MARGIN, column + MARGIN, k] *= norm[column]


@_jit
def _slopes(root: Any, row: Any, right: Any, down: Any, norm: Any) -> None:
    """Steps of one row to the right and down, over their common length in all channels."""
    channels, height, width = root.shape
    below = min(row + 1, height - 1)
    norm[:] = F(0)
    for k in range(channels):
        for column in range(width - 1):
            right[k, column + 1] = root[k, row, column + 1] - root[k, row, column]
        right[k, width] = F(0)
        for column in range(width):
            down[k, column] = root[k, below, column] - root[k, row, column]
        for column in range(width):
            norm[column] += right[k, column + 1] * right[k, column + 1] + down[k, column] * down[k, column]
    for column in range(width):
        norm[column] = F(1) / math.sqrt(norm[column] * (F(3) / F(channels)) + F(1e-4))
    for k in range(channels):
        for column in range(width):
            right[k, column + 1] *= norm[column]
            down[k, column] *= norm[column]
