"""A picture continued past its right and lower border, so that its sides divide as a network needs them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Edge = Literal["once", "twice"]
"""Whether the last pixel stands once at the fold (numpy's `reflect`) or twice (`symmetric`)."""


def mirrored(image: Tensor, *, height: int, width: int, edge: Edge = "once") -> Tensor:
    """`image` with as many rows and columns as asked, the new ones mirrored from its own, however few it has.

    [..., H, W] to [..., height, width]; the same tensor where it has that size.
    """
    for dim, length in ((-2, height), (-1, width)):
        if length != image.shape[dim]:
            at = _folded(image.shape[dim], length, edge).to(image.device)
            image = image.index_select(dim, at)
    return image


def divisible(image: Tensor, multiple: int) -> Tensor:
    """`image` mirrored until both sides divide by `multiple` pixels."""
    height, width = (side + -side % multiple for side in image.shape[-2:])
    return mirrored(image, height=height, width=width)


def _folded(have: int, want: int, edge: Edge) -> Tensor:
    """Which of `have` pixels stands at each of `want` places: there and back again, as often as it takes."""
    period = max(2 * have - 2, 1) if edge == "once" else 2 * have
    at = torch.arange(want) % period
    back = period - at if edge == "once" else period - 1 - at
    return torch.where(at < have, at, back)
