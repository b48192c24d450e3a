"""Single-image restoration of every frame, in tiles.

Nothing here takes a gradient.
"""

from __future__ import annotations

from math import lcm

import torch
from torch import Tensor

from freezeframe.models.imageops.tiling import Restorer, tiled_inference
from freezeframe.models.restorer.image_restorer import ImageRestorer
from freezeframe.pipeline.config import RefineConfig

GRID = 32  # pixels; tiles start at multiples, so that networks with up to five stages pool the same pixels


def refine(images: Tensor, restorer: Restorer | None, config: RefineConfig) -> Tensor:
    """Restore each image independently.

    Args:
        images: [T, 3, H, W] linear RGB.
        restorer: None returns `images` itself.
        config: Size of the tiles.

    Returns:
        [T, 3, H, W] linear RGB.
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
