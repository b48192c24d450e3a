"""The single-image restorer over every frame, in tiles.

Nothing here takes a gradient.
"""

from __future__ import annotations

from math import lcm

import torch
from torch import Tensor

from freezeframe.models.imageops.tiling import Restorer, tiled_inference
from freezeframe.models.restorer.image_restorer import ImageRestorer
from freezeframe.pipeline.config import RefineConfig

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
    grid = lcm(GRID, restorer.multiple) if isinstance(restorer, ImageRestorer) else GRID
    for before, after in zip(images[:, None], refined[:, None], strict=True):
        # Tiles share the global statistics of their image.
        restore_tile = restorer.for_tiles_of(before) if isinstance(restorer, ImageRestorer) else restorer
        after.copy_(
            tiled_inference(restore_tile, before, tile=config.tile, overlap=config.overlap, multiple=grid)
        )
    return refined
