"""One Richardson-Lucy step, compiled for the CPU: gather, compare and hand back, in one pass over the taps.

Blocks of four by four pixels share one way and one offset, so that what they read lies side by side in memory
and one vector instruction serves a line of them. Pictures lie in sheets with a margin, so that a block that
lies partly within may be read as a whole.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, prange
from torch import Tensor
from torch.nn.functional import max_pool2d

from .operator import shared
from .operator_numba import DARK, LANES, Array, F
from .simd4 import FINITE
from .simd4x4 import (
    BLOCK,
    compare_block,
    read_block_down,
    read_block_right,
    write_block_down,
    write_block_right,
)

BANDS = 16
STRIP = (
    64  # blocks side by side whose rows are done before the next ones': what they share stays in the cache
)
MARGIN = 8  # pixels around a sheet: a block, and what rounding may add
GAP = 20  # pixels after each line: lines a multiple of 4096 bytes apart push each other out of the cache
PIXEL = (0,) * LANES  # what tells the vectors how many floats a pixel has
DIM = F(1e-3)  # belief; less changes nothing

Counts = npt.NDArray[np.int64]

_jit: Any = njit(fastmath=FINITE, error_model="numpy", cache=True)
_jit_parallel: Any = njit(parallel=True, fastmath=FINITE, error_model="numpy", cache=True)
_inline: Any = njit(inline="always", fastmath=FINITE, error_model="numpy")


def sheet(height: int, width: int, *, value: float) -> Array:
    """An even picture with a margin all around, [rows, columns, 4]: three colours and a spare lane."""
    rows, columns = (-(-size // BLOCK) * BLOCK + 2 * MARGIN for size in (height, width))
    return np.full((rows, columns + GAP, LANES), value, F)


class Witness:
    """One observation, ready for many steps.

    Args:
        light: [3, H, W] as recorded.
        belief: [H, W] in [0, 1].
        way: [2, H, W] pixels.
        offset: [2, H, W] pixels; None is zero.
        wanted: `counts` of the pixels to which anything is to be handed back; None is everywhere. Blocks that
            reach no such pixel are passed over.
    """

    def __init__(
        self,
        light: Tensor,
        belief: Tensor,
        *,
        way: Tensor,
        offset: Tensor | None,
        wanted: Counts | None = None,
    ) -> None:
        _, height, width = light.shape
        self.way = shared(way).contiguous().numpy()
        self.middle = np.zeros_like(self.way) if offset is None else shared(offset).contiguous().numpy()
        self.seen = sheet(height, width, value=0.0)
        self.live = np.zeros(self.way.shape[1:], np.bool_)
        given = np.ascontiguousarray(light.numpy(), F), np.ascontiguousarray(belief.numpy(), F)
        _lay_out(*given, self.middle, self.way, self.seen, self.live)
        if wanted is not None:
            self.live &= _reaching(wanted, self.middle, self.way)
        self.limits = _bands(self.live, self.middle[1], self.way[1])
        self.most = int(np.abs(self.way).max()) + 4  # taps of any block

    def hand_back(self, sharp: Array, gathered: Array) -> None:
        """Add the adjoint of belief * light / blur(sharp) to `gathered`, a sheet like `sharp`.

        Where the spare lane of `sharp` is 1, that of `gathered` gets the adjoint of the belief.
        """
        flat = [part.reshape(-1) for part in (sharp, self.seen, gathered)]
        _step(*flat, sharp.shape[1], self.live, self.middle, self.way, self.limits, self.most, PIXEL)


def counts(wanted: Tensor) -> Counts | None:
    """How many blocks above and left of each hold a wanted pixel, [H / 4 + 1, W / 4 + 1]; None: all do."""
    blocks = max_pool2d(wanted[None].float(), BLOCK, ceil_mode=True)[0].numpy() > 0
    if blocks.all():
        return None
    height, width = blocks.shape
    sums = np.zeros((height + 1, width + 1), np.int64)
    sums[1:, 1:] = blocks.cumsum(0, dtype=np.int64).cumsum(1)
    return sums


def _reaching(wanted: Counts, middle: Array, way: Array) -> npt.NDArray[np.bool_]:
    """Which blocks read or write any wanted one, give or take a few; by sums over rectangles of blocks."""
    rows, columns = way.shape[1:]
    home = np.arange(columns, dtype=F), np.arange(rows, dtype=F)[:, None]
    edges = []
    for axis, size in ((1, rows), (0, columns)):
        start = home[axis] + middle[axis] / BLOCK
        reach = (np.maximum(np.abs(way[axis]), 1) / 2 + 2) / BLOCK
        edges += [
            np.clip(np.floor(start - reach), 0, size).astype(np.int64),
            np.clip(np.ceil(start + 1 + reach), 0, size).astype(np.int64),
        ]
    top, bottom, left, right = edges
    count = wanted[bottom, right] - wanted[top, right] - wanted[bottom, left] + wanted[top, left]
    return np.asarray(count > 0)


def _bands(live: npt.NDArray[np.bool_], middle: Array, way: Array) -> npt.NDArray[np.int64]:
    """Limits of bands of blocks, so high that no two bands but neighbours write to the same rows."""
    count = len(live)
    top = BLOCK * np.arange(count, dtype=F)[:, None] + middle
    reach = np.maximum(np.abs(way), 1) / 2 + 2
    low = np.where(live, top - reach, np.inf).min(1)
    high = np.where(live, top + BLOCK + reach, -np.inf).max(1)
    for bands in (BANDS, BANDS // 2, BANDS // 4):
        limits = np.unique(np.linspace(0, count, bands + 1).astype(np.int64))
        lowest, highest = np.minimum.reduceat(low, limits[:-1]), np.maximum.reduceat(high, limits[:-1])
        before, after = np.maximum.accumulate(highest), np.minimum.accumulate(lowest[::-1])[::-1]
        if (before[:-2] < after[2:]).all():
            return limits
    return np.array([0, count])


@_inline
def _way(x: Any, y: Any, ux: Any, uy: Any) -> Any:
    """Major axis, ends of the way along it, its line across it, slope, and one over its length."""
    flat = abs(ux) >= abs(uy)
    along, across, way, drop = (x, y, ux, uy) if flat else (y, x, uy, ux)
    length = max(abs(way), F(1))
    share = F(1) / length if length > F(1) else F(1)  # fast division of 1 by 1 need not be 1
    slope = (-drop if way < F(0) else drop) * share
    half = F(0.5) * length
    return flat, along - half, along + half, across - slope * along, slope, share


@_jit_parallel
def _lay_out(light: Any, belief: Any, middle: Any, way: Any, seen: Any, live: Any) -> None:  # noqa: PLR0917, PLR0913
    """Fill sheets with light and belief where ways lie within the picture, and mark the blocks that count."""
    channels, height, width = light.shape
    for i in prange(live.shape[0]):
        for j in range(live.shape[1]):
            x, y = F(BLOCK * j) + middle[0, i, j], F(BLOCK * i) + middle[1, i, j]
            flat, low, high, base, slope, _ = _way(x, y, way[0, i, j], way[1, i, j])
            last_along, last_across = (width - 1, height - 1) if flat else (height - 1, width - 1)
            one, other = base + slope * low, base + slope * high
            least, most = min(one, other), max(one, other)
            for row in range(BLOCK * i, min(BLOCK * (i + 1), height)):
                for column in range(BLOCK * j, min(BLOCK * (j + 1), width)):
                    right, down = F(column - BLOCK * j), F(row - BLOCK * i)
                    along, across = (right, down) if flat else (down, right)
                    if low + along < F(-0.5) or high + along > F(last_along) + F(0.5):
                        continue
                    if least + across < F(0) or most + across > F(last_across):
                        continue
                    c = belief[row, column]
                    if c <= DIM:
                        continue
                    live[i, j] = True
                    for k in range(channels):
                        seen[row + MARGIN, column + MARGIN, k] = c * light[k, row, column]
                    seen[row + MARGIN, column + MARGIN, channels] = c


@_jit
def _taps(  # noqa: PLR0917, PLR0913
    low: Any, high: Any, base: Any, slope: Any, share: Any, along: Any, across: Any, origin: Any, taps: Any
) -> Any:
    """Where each tap begins, in floats, and its weights at the two pixels beside it; returns their number.

    Made for vectors: `np.floor`, as `math.floor` is a call, and no cases but for the two ends.
    """
    starts, near, far = taps
    first = int(np.floor(low + F(0.5)))
    count = int(np.ceil(high - F(0.5))) - first + 1
    for k in range(count):
        side = base + slope * F(first + k)
        below = np.floor(side)
        starts[k] = origin + (first + k) * along + int(below) * across
        far[k] = (side - below) * share
        near[k] = share - far[k]
    for k in (0, count - 1):
        # These are partly on the way.
        begin, end = max(F(first + k) - F(0.5), low), min(F(first + k) + F(0.5), high)
        side = base + slope * (F(0.5) * (begin + end))
        below = np.floor(side)
        weight = max(end - begin, F(0)) * share
        starts[k] = origin + (first + k) * along + int(below) * across
        far[k] = (side - below) * weight
        near[k] = weight - far[k]
    return count


@_jit
def _band(  # noqa: PLR0917, PLR0913
    sharp: Any, seen: Any, gathered: Any, line: Any, live: Any, middle: Any, way: Any, rows: Any, most: Any,
    pixel: Any
) -> None:  # fmt: skip
    """Rows of blocks, from the first to before the second of `rows`; none has more than `most` taps."""
    lanes, columns = len(pixel), live.shape[1]
    down = line * lanes
    origin = MARGIN * (down + lanes)
    acc = np.empty(BLOCK * BLOCK * lanes, F)
    taps = np.empty(most, np.int64), np.empty(most, F), np.empty(most, F)
    starts, near, far = taps
    for left in range(0, columns, STRIP):
        for row in range(rows[0], rows[1]):
            for column in range(left, min(left + STRIP, columns)):
                if not live[row, column]:
                    continue
                x, y = F(BLOCK * column) + middle[0, row, column], F(BLOCK * row) + middle[1, row, column]
                flat, low, high, base, slope, share = _way(x, y, way[0, row, column], way[1, row, column])
                along, across = (lanes, down) if flat else (down, lanes)
                count = _taps(low, high, base, slope, share, along, across, origin, taps)
                if flat:
                    read_block_down(pixel, acc, sharp, starts, near, far, count, down)
                else:
                    read_block_right(pixel, acc, sharp, starts, near, far, count, down)
                here = origin + BLOCK * (row * down + column * lanes)
                compare_block(pixel, acc, seen, here, down, DARK)
                if flat:
                    write_block_down(pixel, acc, gathered, starts, near, far, count, down)
                else:
                    write_block_right(pixel, acc, gathered, starts, near, far, count, down)


@_jit_parallel
def _step(  # noqa: PLR0917, PLR0913
    sharp: Any, seen: Any, gathered: Any, line: Any, live: Any, middle: Any, way: Any, limits: Any, most: Any,
    pixel: Any
) -> None:  # fmt: skip
    # Bands side by side may write to the same rows: first every other, then those between.
    for turn in range(2):
        for half in prange((len(limits) - turn) // 2):
            rows = limits[2 * half + turn : 2 * half + turn + 2]
            _band(sharp, seen, gathered, line, live, middle, way, rows, most, pixel)
