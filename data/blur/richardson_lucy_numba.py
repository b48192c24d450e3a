"""The sums of a Richardson-Lucy step, compiled for the CPU: blur, divide and backproject, block by block.

Blocks of four by four pixels share one blur vector and one offset, so that what they read is contiguous and
one vector instruction serves a row of them. Images are padded, so that a block at the border can be read
whole.

Nothing here takes a gradient.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import prange
from torch import Tensor
from torch.nn.functional import max_pool2d

from .blocks import BLOCK_SIZE as BLOCK
from .blocks import block_mean
from .intrinsics_numba import (
    CHANNELS,
    divide_block,
    gather_block_down,
    gather_block_right,
    scatter_block_down,
    scatter_block_right,
)
from .operator import MIN_LINEAR
from .operator_numba import BANDS, Array, F, jit, jit_parallel, segment_of

STRIP = 64  # columns of blocks that are traversed row by row before the next ones: shared lines stay cached
MARGIN = 8  # pixels of padding: a block, and what rounding may add
GAP = 20  # pixels after each line: lines a multiple of 4096 bytes apart evict each other from the cache
PIXEL = (0,) * CHANNELS  # its type gives the intrinsics the floats of a pixel
MIN_WEIGHT = F(1e-3)  # confidence; less changes nothing

IntegralImage = npt.NDArray[np.int64]


class Images(NamedTuple):
    """Padded images as flat float32 arrays."""

    sharp: Any
    observed: Any
    adjoint_sum: Any
    line: Any  # pixels from one line to the next


class Blocks(NamedTuple):
    """Fields of one vector per block."""

    live: Any  # [rows, columns] whether the block takes part
    centre_offset: Any  # [2, rows, columns] pixels
    blur_vector: Any  # [2, rows, columns] pixels


def make_padded(height: int, width: int, *, value: float) -> Array:
    """A uniform image with padding, [rows, columns, 4]: three colours and a spare channel."""
    rows, columns = (-(-size // BLOCK) * BLOCK + 2 * MARGIN for size in (height, width))
    return np.full((rows, columns + GAP, CHANNELS), value, F)


class ObservationKernelData:
    """One observation, prepared for many steps.

    Args:
        image: [3, H, W] as recorded.
        weight: [H, W] in [0, 1].
        blur_vector: [2, H, W] pixels.
        offset: [2, H, W] pixels; None is zero.
        region: `live_block_integral` of the pixels to update; None is all. Blocks that reach no such pixel
            are skipped.
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
        vectors = block_mean(blur_vector).contiguous().numpy()
        offsets = np.zeros_like(vectors) if offset is None else block_mean(offset).contiguous().numpy()
        self.blocks = Blocks(np.zeros(vectors.shape[1:], np.bool_), offsets, vectors)
        self.observed = make_padded(height, width, value=0.0)
        arrays = np.ascontiguousarray(image.numpy(), F), np.ascontiguousarray(weight.numpy(), F)
        _fill_padded(*arrays, self.blocks, self.observed)
        if region is not None:
            np.logical_and(self.blocks.live, _touched_blocks(region, self.blocks), out=self.blocks.live)
        self.band_limits = _bands(self.blocks)
        self.max_taps = int(np.abs(vectors).max()) + 4  # taps of any block

    def backproject(self, sharp: Array, adjoint_sum: Array) -> None:
        """Add the adjoint of weight * image / blur(sharp) to `adjoint_sum`, padded like `sharp`.

        Where the spare channel of `sharp` is 1, that of `adjoint_sum` gets the adjoint of the weight.
        """
        observed, line = self.observed.reshape(-1), sharp.shape[1]
        images = Images(sharp.reshape(-1), observed, adjoint_sum.reshape(-1), line)
        backproject_kernel(images, self.blocks, self.band_limits, self.max_taps, PIXEL)


def live_block_integral(region: Tensor) -> IntegralImage | None:
    """Integral image of the blocks that `region` touches, [H / 4 + 1, W / 4 + 1]; None if it touches all."""
    blocks = max_pool2d(region[None].float(), BLOCK, ceil_mode=True)[0].numpy() > 0
    if blocks.all():
        return None
    height, width = blocks.shape
    sums = np.zeros((height + 1, width + 1), np.int64)
    sums[1:, 1:] = blocks.cumsum(0, dtype=np.int64).cumsum(1)
    return sums


def _touched_blocks(region: IntegralImage, blocks: Blocks) -> npt.NDArray[np.bool_]:
    """Blocks whose bounding box meets `region`, by its integral image."""
    rows, columns = blocks.live.shape
    block_index = np.arange(columns, dtype=F), np.arange(rows, dtype=F)[:, None]
    edges = []
    for axis, size in ((1, rows), (0, columns)):
        start = block_index[axis] + blocks.centre_offset[axis] / BLOCK
        half_extent = (np.maximum(np.abs(blocks.blur_vector[axis]), 1) / 2 + 2) / BLOCK
        edges += [
            np.clip(np.floor(start - half_extent), 0, size).astype(np.int64),
            np.clip(np.ceil(start + 1 + half_extent), 0, size).astype(np.int64),
        ]
    top, bottom, left, right = edges
    count = region[bottom, right] - region[top, right] - region[bottom, left] + region[top, left]
    return np.asarray(count > 0)


def _bands(blocks: Blocks) -> npt.NDArray[np.int64]:
    """Limits of bands of blocks, so high that no two bands but neighbours write to the same rows."""
    count = len(blocks.live)
    top = BLOCK * np.arange(count, dtype=F)[:, None] + blocks.centre_offset[1]
    half_extent = np.maximum(np.abs(blocks.blur_vector[1]), 1) / 2 + 2
    low = np.where(blocks.live, top - half_extent, np.inf).min(1)
    high = np.where(blocks.live, top + BLOCK + half_extent, -np.inf).max(1)
    for bands in (BANDS, BANDS // 2, BANDS // 4):
        limits = np.unique(np.linspace(0, count, bands + 1).astype(np.int64))
        lowest, highest = np.minimum.reduceat(low, limits[:-1]), np.maximum.reduceat(high, limits[:-1])
        before, after = np.maximum.accumulate(highest), np.minimum.accumulate(lowest[::-1])[::-1]
        if (before[:-2] < after[2:]).all():
            return limits
    return np.array([0, count])


@jit_parallel
def _fill_padded(image: Any, weight: Any, blocks: Any, observed: Any) -> None:
    """Fill `observed` with (weight * image, weight) where segments lie in the image; mark live blocks."""
    channels, height, width = image.shape
    live, centre_offset, blur_vector = blocks.live, blocks.centre_offset, blocks.blur_vector
    for i in prange(live.shape[0]):
        for j in range(live.shape[1]):
            x, y = F(BLOCK * j) + centre_offset[0, i, j], F(BLOCK * i) + centre_offset[1, i, j]
            segment = segment_of(x, y, blur_vector[0, i, j], blur_vector[1, i, j])
            last_along, last_across = (width - 1, height - 1) if segment.flat else (height - 1, width - 1)
            one, other = (
                segment.base + segment.slope * segment.low,
                segment.base + segment.slope * segment.high,
            )
            low_across, high_across = min(one, other), max(one, other)
            for row in range(BLOCK * i, min(BLOCK * (i + 1), height)):
                for column in range(BLOCK * j, min(BLOCK * (j + 1), width)):
                    right, down = F(column - BLOCK * j), F(row - BLOCK * i)
                    along, across = (right, down) if segment.flat else (down, right)
                    if segment.low + along < F(-0.5) or segment.high + along > F(last_along) + F(0.5):
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


@jit
def _tap_weights(segment: Any, along: Any, across: Any, origin: Any, taps: Any) -> Any:
    """Fill in where each tap begins, in floats, and its weights at two pixels; returns the number of taps.

    Branch-free so that LLVM vectorises the loop; only the end taps, which the segment covers in part, are
    special.
    """
    starts, w0, w1 = taps
    low, high, base = segment.low, segment.high, segment.base
    slope, inverse_length = segment.slope, segment.inverse_length
    first = int(np.floor(low + F(0.5)))
    count = int(np.ceil(high - F(0.5))) - first + 1
    for k in range(count):
        cross = base + slope * F(first + k)
        below = np.floor(cross)  # `math.floor` is a call
        starts[k] = origin + (first + k) * along + int(below) * across
        w1[k] = (cross - below) * inverse_length
        w0[k] = inverse_length - w1[k]
    for k in (0, count - 1):
        begin, end = max(F(first + k) - F(0.5), low), min(F(first + k) + F(0.5), high)
        cross = base + slope * (F(0.5) * (begin + end))
        below = np.floor(cross)
        weight = max(end - begin, F(0)) * inverse_length
        starts[k] = origin + (first + k) * along + int(below) * across
        w1[k] = (cross - below) * weight
        w0[k] = weight - w1[k]
    return count


@jit
def backproject_band(images: Any, blocks: Any, rows: Any, max_taps: Any, pixel: Any) -> None:
    """Rows of blocks from rows[0] to before rows[1]; no block has more than `max_taps` taps."""
    sharp, observed, adjoint_sum = images.sharp, images.observed, images.adjoint_sum
    live, centre_offset, blur_vector = blocks.live, blocks.centre_offset, blocks.blur_vector
    lanes, columns = len(pixel), live.shape[1]
    down = images.line * lanes
    origin = MARGIN * (down + lanes)
    acc = np.empty(BLOCK * BLOCK * lanes, F)
    taps = np.empty(max_taps, np.int64), np.empty(max_taps, F), np.empty(max_taps, F)
    starts, w0, w1 = taps
    for left in range(0, columns, STRIP):
        for row in range(rows[0], rows[1]):
            for column in range(left, min(left + STRIP, columns)):
                if not live[row, column]:
                    continue
                segment = segment_of(
                    F(BLOCK * column) + centre_offset[0, row, column],
                    F(BLOCK * row) + centre_offset[1, row, column],
                    blur_vector[0, row, column],
                    blur_vector[1, row, column],
                )
                along, across = (lanes, down) if segment.flat else (down, lanes)
                count = _tap_weights(segment, along, across, origin, taps)
                here = origin + BLOCK * (row * down + column * lanes)
                if segment.flat:
                    gather_block_down(pixel, acc, sharp, starts, w0, w1, count, down)
                    divide_block(pixel, acc, observed, here, down, F(MIN_LINEAR))
                    scatter_block_down(pixel, acc, adjoint_sum, starts, w0, w1, count, down)
                else:
                    gather_block_right(pixel, acc, sharp, starts, w0, w1, count, down)
                    divide_block(pixel, acc, observed, here, down, F(MIN_LINEAR))
                    scatter_block_right(pixel, acc, adjoint_sum, starts, w0, w1, count, down)


@jit_parallel
def backproject_kernel(images: Any, blocks: Any, band_limits: Any, max_taps: Any, pixel: Any) -> None:
    """Add the backprojected ratios of all bands to the adjoint sum."""
    # Adjacent bands may write to the same rows: first every other, then those between.
    for parity in range(2):
        for half in prange((len(band_limits) - parity) // 2):
            rows = band_limits[2 * half + parity : 2 * half + parity + 2]
            backproject_band(images, blocks, rows, max_taps, pixel)
