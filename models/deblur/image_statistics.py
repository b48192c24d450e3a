"""Four numbers that all of a picture tells about what befell it, and a part of it may hide.

A grey sky is no haze where something else in the picture is black (He et al., CVPR 2009), nor is a shadow
darkness; fine texture is no noise where other places are smooth (Immerkaer 1996); steps that come every
eight pixels are JPEG's (Wang, Sheikh and Bovik, ICIP 2002).

Nothing here takes a gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

NUM_STATISTICS = 4
CELL = 8  # pixels of a JPEG block; darkest and brightest are means of so many, which noise does not move
EXTREME_FRACTION = 0.01  # share of the cells that is darker than the darkest, or brighter than the brightest
MAX_NOISE = 50 / 255  # codes; the noise that counts as 1
MAX_BLOCKINESS = 2.0  # nats by which steps between blocks may stand out
_MIN_STEP = 0.1 / 255  # codes; steps below it are rounding
_SAMPLE_STEP = 3  # of so many pixels in x and y one is asked for its noise; it meets every place of a block


def image_statistics(encoded: Tensor) -> Tensor:
    """Darkest, brightest, noise and blocks of a picture.

    Args:
        encoded: [B, 3, H, W] sRGB codes in [0, 1].

    Returns:
        [B, SIGNS]: the darkest colour's code in [0, 1], the brightest's, the square root of the noise's
        standard deviation over `MAX_NOISE`, and by how much steps between JPEG's blocks are higher than
        others, nats.
    """
    encoded = encoded.detach().float()
    luma = encoded.mean(1)
    blocks = (_blockiness(luma) + _blockiness(luma.mT)) / 2
    noise = (_noise(luma) / MAX_NOISE).sqrt()
    return torch.stack([*_extremes(encoded), noise, blocks], 1)


def _extremes(encoded: Tensor) -> tuple[Tensor, Tensor]:
    cells = avg_pool2d(encoded, CELL, ceil_mode=True)
    darkest = cells.amin(1).flatten(1).quantile(EXTREME_FRACTION, dim=1)
    return darkest, cells.amax(1).flatten(1).quantile(1 - EXTREME_FRACTION, dim=1)


def _noise(luma: Tensor) -> Tensor:
    """Standard deviation of white noise in all three colours, [B], from second differences both ways."""
    if min(luma.shape[1:]) < 3:
        return luma.new_zeros(len(luma))
    second_differences = luma[:, 2:] - 2 * luma[:, 1:-1] + luma[:, :-2]
    second_differences = (
        second_differences[:, :, 2:] - 2 * second_differences[:, :, 1:-1] + second_differences[:, :, :-2]
    )
    median = second_differences[:, ::_SAMPLE_STEP, ::_SAMPLE_STEP].abs().flatten(1).median(1).values
    return median / (6 * 0.6745) * 3**0.5  # of a mean of three colours a third of the variance is left


def _blockiness(luma: Tensor) -> Tensor:
    """By how much steps in x between blocks of 8 are higher than within them. [B] nats."""
    steps = (luma[:, :, 1:] - luma[:, :, :-1]).abs()
    whole = steps.shape[2] // CELL * CELL
    if whole == 0:
        return luma.new_zeros(len(luma))
    # Roots, for edges of what was photographed are few and high.
    rows = (steps[:, :, :whole] + _MIN_STEP).sqrt().mean(1)
    phases = rows.reshape(len(luma), -1, CELL).mean(1)
    log_ratio: Tensor = (phases[:, -1] / phases[:, :-1].mean(1)).log()
    return log_ratio.clamp(-MAX_BLOCKINESS, MAX_BLOCKINESS)
