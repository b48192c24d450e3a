"""Inference in overlapping tiles that are blended without a seam, in the memory of one tile."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise, product
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from freezeframe.data.errors import FreezeframeError, is_out_of_memory

ImageFunction = Callable[[Tensor], Tensor]
TileRange = tuple[int, int]  # first pixel, and the pixel after the last

SMALLEST_TILE = 32  # pixels; in smaller tiles border effects dominate


def tiled_inference(
    restorer: Restorer, image: Tensor, *, tile: int, overlap: int, multiple: int = 1
) -> Tensor:
    """`restorer(image)`, computed in tiles that overlap by `overlap` pixels and are blended there.

    Tiles are blended over the middle half of the overlap; the outer quarters, which border effects reach, are
    discarded. So the result equals the untiled one if the receptive field has a radius of at most a quarter
    of the overlap, and is close to it up to half of the overlap. Takes no gradient.

    Args:
        restorer: Must take any size: tiles at the right and lower border end with the image. It may upscale
            by an integer factor.
        image: [1, 3, H, W], any size.
        tile: Largest side of a tile in pixels, halved whenever memory runs out.
        overlap: Least overlap of neighbouring tiles in pixels, up to half a tile.
        multiple: Tiles start at multiples of this many pixels, so that downsampling pairs the same pixels in
            every tile.

    Raises:
        FreezeframeError: The smallest tile does not fit into memory.
    """
    if tile < multiple:
        raise ValueError(f"a tile of {tile} pixels cannot start at every multiple of {multiple}")

    def cut(side: int) -> tuple[list[TileRange], list[TileRange]]:
        shared = min(overlap, side // 2)
        rows, columns = (
            tile_ranges(length, tile=side, overlap=shared, multiple=multiple) for length in image.shape[-2:]
        )
        return rows, columns

    side = min(tile, _round_up(max(image.shape[-2:]), multiple))
    return _blend_within_memory(
        restorer, image, cut, sides=(side, max(SMALLEST_TILE, multiple)), multiple=multiple
    )


def uniform_tiled_inference(
    network: ImageFunction, image: Tensor, *, tile: int, overlap: int, multiple: int = 1
) -> Tensor:
    """`network(image)` in the fewest tiles of one size, so that a backend compiles for one shape only.

    Tiles are blended as in `tiled_inference`. Takes no gradient.

    Args:
        network: [1, C, H, W] to [1, D, H, W].
        image: [1, C, H, W], sides in multiples of `multiple`.
        tile: A tile has no more pixels than a square of this side, halved whenever memory runs out.
        overlap: Least overlap of neighbouring tiles in pixels, up to half of `tile`.
        multiple: Tiles start and stop at multiples of this many pixels.
    """
    if any(side % multiple for side in image.shape[-2:]):
        raise ValueError(f"sides of {tuple(image.shape[-2:])} are not multiples of {multiple} pixels")

    def cut(side: int) -> tuple[list[TileRange], list[TileRange]]:
        height, width = image.shape[-2:]
        return uniform_tile_ranges(
            (height, width), tile=side, overlap=min(overlap, side // 2), multiple=multiple
        )

    return _blend_within_memory(network, image, cut, sides=(max(tile, SMALLEST_TILE), SMALLEST_TILE))


def pad_replicate(image: Tensor, multiple: int) -> Tensor:
    """Pad [B, C, H, W] by its last row and column to multiples of `multiple`. Copies only if needed."""
    right, below = (-side % multiple for side in (image.shape[-1], image.shape[-2]))
    return pad(image, (0, right, 0, below), mode="replicate") if right or below else image


def count_tiles(size: Sequence[int], *, tile: int, overlap: int, multiple: int = 1) -> int:
    """Number of tiles of `tiled_inference` for an image of this size, if memory is sufficient."""
    side = min(tile, _round_up(max(size), multiple))
    shared = min(overlap, side // 2)
    return math.prod(
        len(tile_ranges(length, tile=side, overlap=shared, multiple=multiple)) for length in size
    )


def tile_ranges(length: int, *, tile: int, overlap: int, multiple: int = 1) -> list[TileRange]:
    """Ranges of tiles along one side: evenly spread, overlapping by at least `overlap` pixels.

    They overlap less only if `multiple` is larger than `tile - overlap`.
    """
    step = max((tile - overlap) // multiple * multiple, multiple)
    last = _round_up(max(length - tile, 0), multiple)
    number = math.ceil(last / step) + 1
    starts = [last * i // max(number - 1, 1) // multiple * multiple for i in range(number)]
    return [(start, min(start + tile, length)) for start in starts]


def uniform_tile_ranges(
    size: tuple[int, int], *, tile: int, overlap: int, multiple: int = 1
) -> tuple[list[TileRange], list[TileRange]]:
    """Row and column ranges of equal tiles: the longer side is divided until tiles have tile^2 pixels."""
    counts = [1, 1]
    sides = list(size)
    while sides[0] * sides[1] > tile * tile:
        longer = int(sides[1] > sides[0])
        counts[longer] += 1
        shared = overlap * (counts[longer] - 1)
        sides[longer] = _round_up(math.ceil((size[longer] + shared) / counts[longer]), multiple)
    rows, columns = (
        tile_ranges(length, tile=side, overlap=overlap, multiple=multiple)
        for length, side in zip(size, sides, strict=True)
    )
    return rows, columns


def blend_weights(crops: list[TileRange]) -> list[Tensor]:
    """Blend weights of each tile along one side; they add up to 1 at every pixel.

    A raised cosine, half as long as the shortest overlap, rises at the middle of each overlap. The weight of
    a tile is the rise at its start minus the rise at its end, so the sum telescopes.
    """
    pixels = torch.arange(crops[-1][1]) + 0.5
    shared = [(after[0], before[1]) for before, after in pairwise(crops)]
    width = max(min((stop - start for start, stop in shared), default=0) / 2, 1)
    rises = [_rise((pixels - (start + stop) / 2) / width) for start, stop in shared]
    edges = [torch.ones_like(pixels), *rises, torch.zeros_like(pixels)]
    weights = [start_rise - stop_rise for start_rise, stop_rise in pairwise(edges)]
    return [weight[start:stop] for weight, (start, stop) in zip(weights, crops, strict=True)]


def _rise(x: Tensor) -> Tensor:
    """0 below -1/2, 1 above 1/2, a raised cosine in between."""
    smooth = 0.5 - 0.5 * torch.cos(math.pi * (x + 0.5).clamp(0, 1))
    # In steps of 2^-12 products of two weights, and their sums, are exact in float32.
    return (smooth * 4096).round() / 4096


def _round_up(length: int, multiple: int) -> int:
    return length + -length % multiple


def _blend_within_memory(
    network: ImageFunction,
    image: Tensor,
    cut: Callable[[int], tuple[list[TileRange], list[TileRange]]],
    *,
    sides: tuple[int, int],
    multiple: int = 1,
) -> Tensor:
    """The blended image from the largest tiles that fit into memory, from `sides[0]` down to `sides[1]`."""
    side, floor = sides
    while (blended := _try_blend(network, image, *cut(side))) is None:
        if side <= floor:
            raise FreezeframeError(
                f"a tile of {side} x {side} pixels does not fit into memory; close other programs or use"
                " another device"
            )
        # A tile that ends off the network's grid would be padded inside the image.
        side = max(side // 2 // multiple * multiple, floor)
    return blended


def _try_blend(
    network: ImageFunction, image: Tensor, rows: list[TileRange], columns: list[TileRange]
) -> Tensor | None:
    """The blended image, or None if memory runs out."""
    try:
        return _blend(network, image, rows, columns)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    # The stack frames of the error release their tensors only after the except block.
    torch.cuda.empty_cache()
    return None


def _blend(network: ImageFunction, image: Tensor, rows: list[TileRange], columns: list[TileRange]) -> Tensor:
    if len(rows) == len(columns) == 1:
        return network(image)
    blended, factor = image.new_zeros(0), 1
    down, across = blend_weights(rows), blend_weights(columns)
    for ((top, bottom), row_weight), ((left, right), column_weight) in product(
        zip(rows, down, strict=True), zip(columns, across, strict=True)
    ):
        output = network(image[..., top:bottom, left:right])
        if not blended.numel():
            factor = output.shape[-1] // (right - left)
            blended = output.new_zeros(*output.shape[:-2], *(side * factor for side in image.shape[-2:]))
        weight = (row_weight[:, None] * column_weight).to(output)
        weight = weight.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
        region = (slice(top * factor, bottom * factor), slice(left * factor, right * factor))
        blended[..., *region] += weight * output
    return blended


class Restorer(Protocol):
    """Restores a single image: [1, 3, H, W] linear RGB of any size to the same."""

    def __call__(self, image: Tensor, /) -> Tensor: ...
