"""A picture continued past its right and lower border, so that its sides divide as a network needs them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

ReflectMode = Literal["reflect", "symmetric"]
"""Whether the last pixel stands once at the fold (numpy's `reflect`) or twice (`symmetric`)."""


def reflect_pad(image: Tensor, *, height: int, width: int, mode: ReflectMode = "reflect") -> Tensor:
    """`image` with as many rows and columns as asked, the new ones mirrored from its own, however few it has.

    [..., H, W] to [..., height, width]; the same tensor where it has that size.
    """
    for dim, length in ((-2, height), (-1, width)):
        if length != image.shape[dim]:
            at = _reflected_index(image.shape[dim], length, mode).to(image.device)
            image = image.index_select(dim, at)
    return image


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """`image` mirrored until both sides divide by `multiple` pixels."""
    height, width = (side + -side % multiple for side in image.shape[-2:])
    return reflect_pad(image, height=height, width=width)


def _reflected_index(size: int, length: int, mode: ReflectMode) -> Tensor:
    """Which of `size` pixels stands at each of `length` places: there and back again, as often as it takes."""
    period = max(2 * size - 2, 1) if mode == "reflect" else 2 * size
    at = torch.arange(length) % period
    back = period - at if mode == "reflect" else period - 1 - at
    return torch.where(at < size, at, back)
