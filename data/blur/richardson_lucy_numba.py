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

from .operator import block_mean
from .operator_numba import LANES, MIN_LINEAR, Array, F
from .simd4 import FAST_MATH
from .simd4x4 import (
    BLOCK,
    divide_block,
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
MIN_WEIGHT = F(1e-3)  # belief; less changes nothing

IntegralImage = npt.NDArray[np.int64]

_jit: Any = njit(fastmath=FAST_MATH, error_model="numpy", cache=True)
_jit_parallel: Any = njit(parallel=True, fastmath=FAST_MATH, error_model="numpy", cache=True)
_inline: Any = njit(inline="always", fastmath=FAST_MATH, error_model="numpy")


def make_padded(height: int, width: int, *, value: float) -> Array:
    """An even picture with a margin all around, [rows, columns, 4]: three colours and a spare lane."""
    rows, columns = (-(-size // BLOCK) * BLOCK + 2 * MARGIN for size in (height, width))
    return np.full((rows, columns + GAP, LANES), value, F)


class ObservationKernelData:
    """One observation, ready for many steps.

    Args:
        image: [3, H, W] as recorded.
        weight: [H, W] in [0, 1].
        blur_vector: [2, H, W] pixels.
        offset: [2, H, W] pixels; None is zero.
        region: `live_block_integral` of the pixels to which anything is to be handed back; None is everywhere. Blocks that
            reach no such pixel are passed over.
    """

    def __init__(
        self,
        image: Tensor,
        weight: Tensor,
        *,
        blur_vector: Tensor,
        offset: Tensor | None,
        region: IntegralImage | None = None,
    ) -> None:
        _, height, width = image.shape
        self.blur_vector = block_mean(blur_vector).contiguous().numpy()
        self.centre_offset = (
            np.zeros_like(self.blur_vector) if offset is None else block_mean(offset).contiguous().numpy()
        )
        self.observed = make_padded(height, width, value=0.0)
        self.live = np.zeros(self.blur_vector.shape[1:], np.bool_)
        arrays = np.ascontiguousarray(image.numpy(), F), np.ascontiguousarray(weight.numpy(), F)
        _fill_padded(*arrays, self.centre_offset, self.blur_vector, self.observed, self.live)
        if region is not None:
            self.live &= _touched_blocks(region, self.centre_offset, self.blur_vector)
        self.band_limits = _bands(self.live, self.centre_offset[1], self.blur_vector[1])
        self.max_taps = int(np.abs(self.blur_vector).max()) + 4  # taps of any block

    def backproject(self, sharp: Array, adjoint_sum: Array) -> None:
        """Add the adjoint of belief * light / blur(sharp) to `adjoint_sum`, a sheet like `sharp`.

        Where the spare lane of `sharp` is 1, that of `adjoint_sum` gets the adjoint of the belief.
        """
        flat = [part.reshape(-1) for part in (sharp, self.observed, adjoint_sum)]
        _step(
            *flat,
            sharp.shape[1],
            self.live,
            self.centre_offset,
            self.blur_vector,
            self.band_limits,
            self.max_taps,
            PIXEL,
        )


def live_block_integral(region: Tensor) -> IntegralImage | None:
    """How many blocks above and left of each hold a wanted pixel, [H / 4 + 1, W / 4 + 1]; None: all do."""
    blocks = max_pool2d(region[None].float(), BLOCK, ceil_mode=True)[0].numpy() > 0
    if blocks.all():
        return None
    height, width = blocks.shape
    sums = np.zeros((height + 1, width + 1), np.int64)
    sums[1:, 1:] = blocks.cumsum(0, dtype=np.int64).cumsum(1)
    return sums


def _touched_blocks(region: IntegralImage, centre_offset: Array, blur_vector: Array) -> npt.NDArray[np.bool_]:
    """Which blocks read or write any wanted one, give or take a few; by sums over rectangles of blocks."""
    rows, columns = blur_vector.shape[1:]
    block_index = np.arange(columns, dtype=F), np.arange(rows, dtype=F)[:, None]
    edges = []
    for axis, size in ((1, rows), (0, columns)):
        start = block_index[axis] + centre_offset[axis] / BLOCK
        half_extent = (np.maximum(np.abs(blur_vector[axis]), 1) / 2 + 2) / BLOCK
        edges += [
            np.clip(np.floor(start - half_extent), 0, size).astype(np.int64),
            np.clip(np.ceil(start + 1 + half_extent), 0, size).astype(np.int64),
        ]
    top, bottom, left, right = edges
    count = region[bottom, right] - region[top, right] - region[bottom, left] + region[top, left]
    return np.asarray(count > 0)


def _bands(live: npt.NDArray[np.bool_], centre_offset: Array, blur_vector: Array) -> npt.NDArray[np.int64]:
    """Limits of bands of blocks, so high that no two bands but neighbours write to the same rows."""
    count = len(live)
    top = BLOCK * np.arange(count, dtype=F)[:, None] + centre_offset
    half_extent = np.maximum(np.abs(blur_vector), 1) / 2 + 2
    low = np.where(live, top - half_extent, np.inf).min(1)
    high = np.where(live, top + BLOCK + half_extent, -np.inf).max(1)
    for bands in (BANDS, BANDS // 2, BANDS // 4):
        band_limits = np.unique(np.linspace(0, count, bands + 1).astype(np.int64))
        lowest, highest = (
            np.minimum.reduceat(low, band_limits[:-1]),
            np.maximum.reduceat(high, band_limits[:-1]),
        )
        before, after = np.maximum.accumulate(highest), np.minimum.accumulate(lowest[::-1])[::-1]
        if (before[:-2] < after[2:]).all():
            return band_limits
    return np.array([0, count])


@_inline
def _segment(x: Any, y: Any, ux: Any, uy: Any) -> Any:
    """Major axis, ends of the way along it, its line across it, slope, and one over its length."""
    flat = abs(ux) >= abs(uy)
    along, across, major, minor = (x, y, ux, uy) if flat else (y, x, uy, ux)
    length = max(abs(major), F(1))
    inverse_length = F(1) / length if length > F(1) else F(1)  # fast division of 1 by 1 need not be 1
    slope = (-minor if major < F(0) else minor) * inverse_length
    half = F(0.5) * length
    return flat, along - half, along + half, across - slope * along, slope, inverse_length


@_jit_parallel
def _fill_padded(  # noqa: PLR0917, PLR0913
    image: Any, weight: Any, centre_offset: Any, blur_vector: Any, observed: Any, live: Any
) -> None:
    """Fill sheets with light and belief where ways lie within the picture, and mark the blocks that count."""
    channels, height, width = image.shape
    for i in prange(live.shape[0]):
        for j in range(live.shape[1]):
            x, y = F(BLOCK * j) + centre_offset[0, i, j], F(BLOCK * i) + centre_offset[1, i, j]
            flat, low, high, base, slope, _ = _segment(x, y, blur_vector[0, i, j], blur_vector[1, i, j])
            last_along, last_across = (width - 1, height - 1) if flat else (height - 1, width - 1)
            one, other = base + slope * low, base + slope * high
            low_across, high_across = min(one, other), max(one, other)
            for row in range(BLOCK * i, min(BLOCK * (i + 1), height)):
                for column in range(BLOCK * j, min(BLOCK * (j + 1), width)):
                    right, down = F(column - BLOCK * j), F(row - BLOCK * i)
                    along, across = (right, down) if flat else (down, right)
                    if low + along < F(-0.5) or high + along > F(last_along) + F(0.5):
                        continue
                    if low_across + across < F(0) or high_across + across > F(last_across):
                        continue
                    c = weight[row, column]
                    if c <= MIN_WEIGHT:
                        continue
                    live[i, j] = True
                    for k in range(channels):
                        observed[row + MARGIN, column + MARGIN, k] = c * image[k, row, column]
                    observed[row + MARGIN, column + MARGIN, channels] = c


@_jit
def _tap_weights(  # noqa: PLR0917, PLR0913
    low: Any,
    high: Any,
    base: Any,
    slope: Any,
    inverse_length: Any,
    along: Any,
    across: Any,
    origin: Any,
    taps: Any,
) -> Any:
    """Where each tap begins, in floats, and its weights at the two pixels beside it; returns their number.

    Made for vectors: `np.floor`, as `math.floor` is a call, and no cases but for the two ends.
    """
    starts, w0, w1 = taps
    first = int(np.floor(low + F(0.5)))
    count = int(np.ceil(high - F(0.5))) - first + 1
    for k in range(count):
        cross = base + slope * F(first + k)
        below = np.floor(cross)
        starts[k] = origin + (first + k) * along + int(below) * across
        w1[k] = (cross - below) * inverse_length
        w0[k] = inverse_length - w1[k]
    for k in (0, count - 1):
        # These are partly on the way.
        begin, end = max(F(first + k) - F(0.5), low), min(F(first + k) + F(0.5), high)
        cross = base + slope * (F(0.5) * (begin + end))
        below = np.floor(cross)
        weight = max(end - begin, F(0)) * inverse_length
        starts[k] = origin + (first + k) * along + int(below) * across
        w1[k] = (cross - below) * weight
        w0[k] = weight - w1[k]
    return count


@_jit
def _band(  # noqa: PLR0917, PLR0913
    sharp: Any, observed: Any, adjoint_sum: Any, line: Any, live: Any, centre_offset: Any, blur_vector: Any, rows: Any, max_taps: Any,
    pixel: Any
) -> None:  # fmt: skip
    """Rows of blocks, from the first to before the second of `rows`; none has more than `max_taps` taps."""
    lanes, columns = len(pixel), live.shape[1]
    down = line * lanes
    origin = MARGIN * (down + lanes)
    acc = np.empty(BLOCK * BLOCK * lanes, F)
    taps = np.empty(max_taps, np.int64), np.empty(max_taps, F), np.empty(max_taps, F)
    starts, w0, w1 = taps
    for left in range(0, columns, STRIP):
        for row in range(rows[0], rows[1]):
            for column in range(left, min(left + STRIP, columns)):
                if not live[row, column]:
                    continue
                x, y = (
                    F(BLOCK * column) + centre_offset[0, row, column],
                    F(BLOCK * row) + centre_offset[1, row, column],
                )
                flat, low, high, base, slope, inverse_length = _segment(
                    x, y, blur_vector[0, row, column], blur_vector[1, row, column]
                )
                along, across = (lanes, down) if flat else (down, lanes)
                count = _tap_weights(low, high, base, slope, inverse_length, along, across, origin, taps)
                if flat:
                    read_block_down(pixel, acc, sharp, starts, w0, w1, count, down)
                else:
                    read_block_right(pixel, acc, sharp, starts, w0, w1, count, down)
                here = origin + BLOCK * (row * down + column * lanes)
                divide_block(pixel, acc, observed, here, down, MIN_LINEAR)
                if flat:
                    write_block_down(pixel, acc, adjoint_sum, starts, w0, w1, count, down)
                else:
                    write_block_right(pixel, acc, adjoint_sum, starts, w0, w1, count, down)


@_jit_parallel
def _step(  # noqa: PLR0917, PLR0913
    sharp: Any, observed: Any, adjoint_sum: Any, line: Any, live: Any, centre_offset: Any, blur_vector: Any, band_limits: Any, max_taps: Any,
    pixel: Any
) -> None:  # fmt: skip
    # Bands side by side may write to the same rows: first every other, then those between.
    for parity in range(2):
        for half in prange((len(band_limits) - parity) // 2):
            rows = band_limits[2 * half + parity : 2 * half + parity + 2]
            _band(sharp, observed, adjoint_sum, line, live, centre_offset, blur_vector, rows, max_taps, pixel)
