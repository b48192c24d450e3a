"""Richardson-Lucy in compiled kernels: the numbers of `deconvolve.iterate_tensors`, ten times as fast."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit, prange
from torch import Tensor

from ..data.exposure_kernels import DARK, LANES, Array, Bands, field, middles, packed, step, unpacked
from .deconvolve import LEAST, UNSEEN, Observation

F = np.float32
_jit_parallel: Any = njit(parallel=True, fastmath=True, error_model="numpy", cache=True)


def iterate(
    start: Tensor, observations: Sequence[Observation], *, steps: int, pace: Tensor, smooth: float
) -> Tensor:
    """`deconvolve.richardson_lucy` on the CPU."""
    sharp = np.maximum(packed(start), DARK)
    speed = np.ascontiguousarray(pace.numpy(), F)
    seen = [_Seen(observation) for observation in observations]
    total, gathered, root = np.full_like(sharp, UNSEEN), np.empty_like(sharp), np.empty_like(sharp)
    ones = np.ones_like(sharp)
    for each in seen:
        each.hand_back(ones, ones, total)
    for _ in range(steps):
        gathered[:] = F(UNSEEN)
        for each in seen:
            each.hand_back(sharp, each.light, gathered)
        _advance(sharp, gathered, total, speed, root)
        if smooth > 0:
            _calm(sharp, root, speed, F(smooth))
    return unpacked([sharp], start)


class _Seen:
    """An observation in the layout of the kernels."""

    def __init__(self, observation: Observation) -> None:
        self.light = packed(observation.light)
        self.way = field(observation.way)
        self.middle = middles(observation.offset, like=observation.way)
        self.belief = np.ascontiguousarray(observation.belief.numpy(), F)
        self.bands = Bands(self.middle, self.way)

    def hand_back(self, sharp: Array, light: Array, gathered: Array) -> None:
        """Add the adjoint of belief * light / blur(sharp) to `gathered`."""
        step(sharp, light, self.belief, self.middle, self.way, self.bands)
        self.bands.add_to(gathered)


@_jit_parallel
def _advance(sharp: Any, gathered: Any, total: Any, pace: Any, root: Any) -> None:
    """One multiplicative step, and the square root of its result."""
    height, width = pace.shape
    for row in prange(height):
        for column in range(width):
            speed = pace[row, column]
            for k in range(LANES):
                change = gathered[row, column, k] / total[row, column, k] - F(1)
                value = sharp[row, column, k] * max(F(1) + change * speed, F(LEAST))
                sharp[row, column, k] = value
                root[row, column, k] = math.sqrt(max(value, DARK))


@_jit_parallel
def _calm(sharp: Any, root: Any, pace: Any, smooth: Any) -> None:
    """`deconvolve.calmed`, row by row; the normalised slopes of the row above are kept for the next."""
    height, width = pace.shape
    for row in prange(height):
        here, left = np.empty(2 * LANES, F), np.zeros(LANES, F)
        above = np.empty(2 * LANES, F)
        for column in range(width):
            _slopes(root, row, column, here)
            if row > 0:
                _slopes(root, row - 1, column, above)
            for k in range(LANES):
                spread = here[k] - left[k] + here[LANES + k]
                if row > 0:
                    spread -= above[LANES + k]
                change = F(1) - smooth * pace[row, column] * spread
                sharp[row, column, k] /= min(max(change, F(0.5)), F(2))
                left[k] = here[k]


_inline: Any = njit(inline="always", fastmath=True, error_model="numpy")


@_inline
def _slopes(root: Any, row: Any, column: Any, out: Any) -> None:
    """Steps to the right and down of all lanes, over their common length."""
    height, width = root.shape[0], root.shape[1]
    total = F(1e-4)
    for k in range(LANES):
        value = root[row, column, k]
        right = root[row, column + 1, k] - value if column < width - 1 else F(0)
        down = root[row + 1, column, k] - value if row < height - 1 else F(0)
        out[k], out[LANES + k] = right, down
        total += right * right + down * down
    norm = F(1) / math.sqrt(total)
    for k in range(2 * LANES):
        out[k] *= norm
