"""Richardson-Lucy in compiled kernels: the numbers of `deconvolve.iterate_tensors`, far faster."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from ..data.exposure_kernels import DARK, Array
from ..data.exposure_step import MARGIN, Witness, sheet
from .deconvolve import LEAST, UNSEEN, Observation

F = np.float32
_jit_parallel: Any = njit(parallel=True, fastmath=True, error_model="numpy", cache=True)
_inline: Any = njit(inline="always", fastmath=True, error_model="numpy")


def iterate(
    start: Tensor, observations: Sequence[Observation], *, steps: int, pace: Tensor, smooth: float
) -> Tensor:
    """`deconvolve.richardson_lucy` on the CPU."""
    channels, height, width = start.shape
    witnesses = [Witness(o.light, o.belief, way=o.way, offset=o.offset) for o in observations]
    sharp = sheet(height, width, channels=channels, value=1.0)
    _pack(start.contiguous().numpy(), sharp)
    gathered, root = np.full_like(sharp, UNSEEN), np.empty((height, width, channels), F)
    total = gathered if channels > 1 else _total(witnesses, like=sharp)
    speed = np.ascontiguousarray(pace.numpy(), F)
    for _ in range(steps):
        for witness in witnesses:
            witness.hand_back(sharp, gathered)
        _advance(sharp, gathered, total, speed, root)
        if smooth > 0:
            _calm(sharp, root, speed, F(smooth))
    picture = sharp[MARGIN : MARGIN + height, MARGIN : MARGIN + width, :channels]
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))


def _total(witnesses: list[Witness], *, like: Array) -> Array:
    """What all beliefs hand back. Pictures in colour carry it in their spare lane."""
    total = np.full_like(like, UNSEEN)
    for witness in witnesses:
        witness.hand_back_belief(total)
    return total


@_jit_parallel
def _pack(image: Any, out: Any) -> None:
    channels, height, width = image.shape
    for row in prange(height):
        for column in range(width):
            for k in range(channels):
                out[row + MARGIN, column + MARGIN, k] = max(image[k, row, column], DARK)


@_jit_parallel
def _advance(sharp: Any, gathered: Any, total: Any, pace: Any, root: Any) -> None:
    """One multiplicative step, and the square root of its result; empties `gathered`."""
    height, width, channels = root.shape
    for row in prange(height):
        y = row + MARGIN
        for column in range(width):
            x = column + MARGIN
            speed, every = pace[row, column], F(1) / total[y, x, total.shape[2] - 1]
            for k in range(channels):
                change = gathered[y, x, k] * every - F(1)
                value = sharp[y, x, k] * max(F(1) + change * speed, F(LEAST))
                sharp[y, x, k] = value
                root[row, column, k] = math.sqrt(max(value, DARK))
            for k in range(gathered.shape[2]):
                gathered[y, x, k] = F(UNSEEN)


@_jit_parallel
def _calm(sharp: Any, root: Any, pace: Any, smooth: Any) -> None:
    """`deconvolve.calmed`, row by row; the normalised slopes to the left are kept for the next pixel."""
    height, width, channels = root.shape
    for row in prange(height):
        here, left = np.empty(2 * channels, F), np.zeros(channels, F)
        above = np.zeros(2 * channels, F)
        for column in range(width):
            _slopes(root, row, column, here)
            if row > 0:
                _slopes(root, row - 1, column, above)
            for k in range(channels):
                spread = here[k] - left[k] + here[channels + k] - above[channels + k]
                change = F(1) - smooth * pace[row, column] * spread
                sharp[row + MARGIN, column + MARGIN, k] /= min(max(change, F(0.5)), F(2))
                left[k] = here[k]


@_inline
def _slopes(root: Any, row: Any, column: Any, out: Any) -> None:
    """Steps to the right and down of all channels, over their common length."""
    height, width, channels = root.shape
    total = F(0)
    for k in range(channels):
        value = root[row, column, k]
        right = root[row, column + 1, k] - value if column < width - 1 else F(0)
        down = root[row + 1, column, k] - value if row < height - 1 else F(0)
        out[k], out[channels + k] = right, down
        total += right * right + down * down
    norm = F(1) / math.sqrt(total * (F(3) / F(channels)) + F(1e-4))
    for k in range(2 * channels):
        out[k] *= norm
