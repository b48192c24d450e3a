"""Blocks of four by four pixels that share one blur vector."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import avg_pool2d

BLOCK_SIZE = 4  # pixels on a side of the blocks that share one blur vector


def block_mean(field: Tensor) -> Tensor:
    """Mean vector of each block of four by four pixels of [2, H, W]: [2, H / 4, W / 4].

    The deconvolution uses one blur vector per block, as one instruction then serves several pixels.
    """
    return avg_pool2d(field, BLOCK_SIZE, ceil_mode=True)


def block_upsample(blocks: Tensor, size: Sequence[int]) -> Tensor:
    """The vectors of `block_mean` for every pixel, [2, H, W]."""
    rows = blocks.repeat_interleave(BLOCK_SIZE, 1).repeat_interleave(BLOCK_SIZE, 2)
    return rows[:, : size[0], : size[1]].contiguous()
