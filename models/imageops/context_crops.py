"""Parts of a picture that tell of all of it, for networks that want to know what happened to the whole.

Nothing here takes a gradient.
"""

from __future__ import annotations

from itertools import product

from torch import Tensor

SIDE, COUNT = 512, 3  # pixels of a square, and squares down and across
GRID = 8  # pixels; squares start at multiples of it, where JPEG's blocks do


def glances(codes: Tensor) -> list[Tensor]:
    """The picture, or squares spread over it where it is large: the same for any size of tiles."""
    height, width = codes.shape[-2:]
    if height * width <= (COUNT * SIDE) ** 2 // 2:
        return [codes]
    corners = product(_starts(height), _starts(width))
    return [codes[..., top : top + SIDE, left : left + SIDE] for top, left in corners]


def _starts(length: int) -> list[int]:
    count = min(COUNT, -(-length // SIDE))
    return [max(length - SIDE, 0) * i // max(count - 1, 1) // GRID * GRID for i in range(count)]
