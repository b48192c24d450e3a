"""Crops that represent a whole image, for networks with global statistics.

Nothing here takes a gradient.
"""

from __future__ import annotations

from itertools import product

from torch import Tensor

CROP_SIDE, CROPS_PER_SIDE = 512, 3  # pixels; crops per column and row
JPEG_GRID = 8  # pixels; crops start at block boundaries of JPEG


def context_crops(encoded: Tensor) -> list[Tensor]:
    """The image [..., H, W], or evenly spread crops of a large one; independent of the size of tiles."""
    height, width = encoded.shape[-2:]
    if height * width <= (CROPS_PER_SIDE * CROP_SIDE) ** 2 // 2:
        return [encoded]
    corners = product(_starts(height), _starts(width))
    return [encoded[..., top : top + CROP_SIDE, left : left + CROP_SIDE] for top, left in corners]


def _starts(length: int) -> list[int]:
    count = min(CROPS_PER_SIDE, -(-length // CROP_SIDE))
    return [
        max(length - CROP_SIDE, 0) * i // max(count - 1, 1) // JPEG_GRID * JPEG_GRID for i in range(count)
    ]
