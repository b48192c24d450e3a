"""The single-image restorer over every frame, in tiles."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.restorer import Restorer
from ..models.tiles import in_tiles
from .config import RefineConfig

GRID = 32  # pixels; networks that halve the picture up to five times then pair the same pixels in every tile


def refine(images: Tensor, restorer: Restorer | None, config: RefineConfig) -> Tensor:
    """Restore each picture by itself.

    Args:
        images: [T, 3, H, W] linear RGB.
        restorer: None leaves everything as it is.
        config: Size of the tiles.

    Returns:
        [T, 3, H, W] linear RGB; `images` itself where there is no restorer.
    """
    if restorer is None:
        return images
    refined = torch.empty_like(images)
    for before, after in zip(images[:, None], refined[:, None], strict=True):
        after.copy_(in_tiles(restorer, before, tile=config.tile, overlap=config.overlap, multiple=GRID))
    return refined
