"""Padding at the right and lower border, to sides that a network can divide."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

ReflectMode = Literal["reflect", "symmetric"]
"""Modes of `numpy.pad`: the border pixel occurs once (`reflect`) or twice (`symmetric`)."""


def reflect_pad(image: Tensor, *, height: int, width: int, mode: ReflectMode = "reflect") -> Tensor:
    """Pad [..., H, W] to [..., height, width] by reflection, repeated where the image is smaller than that.

    Returns the same tensor if it has that size.
    """
    for dim, length in ((-2, height), (-1, width)):
        if length != image.shape[dim]:
            at = _reflected_index(image.shape[dim], length, mode).to(image.device)
            image = image.index_select(dim, at)
    return image


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Pad [..., H, W] by reflection to sides that are multiples of `multiple` pixels."""
    height, width = (side + -side % multiple for side in image.shape[-2:])
    return reflect_pad(image, height=height, width=width)


def _reflected_index(size: int, length: int, mode: ReflectMode) -> Tensor:
    """The index in [0, size) of each of `length` pixels of a periodic reflection."""
    period = max(2 * size - 2, 1) if mode == "reflect" else 2 * size
    at = torch.arange(length) % period
    back = period - at if mode == "reflect" else period - 1 - at
    return torch.where(at < size, at, back)
