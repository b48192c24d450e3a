"""Four global statistics of an image that indicate its degradations.

The darkest and the brightest value separate haze from a grey sky and darkness from a shadow (dark channel
prior: He et al., CVPR 2009). The noise level is that of the smooth parts, which texture does not change
(Immerkaer 1996). Steps every eight pixels are JPEG blocks (Wang, Sheikh and Bovik, ICIP 2002).

Nothing here takes a gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

NUM_STATISTICS = 4
CELL = 8  # pixels; side of a JPEG block, and of the cells whose means are independent of noise
EXTREME_FRACTION = 0.01  # fraction of the cells beyond the darkest, or the brightest, value
MAX_NOISE = 50 / 255  # code values of [0, 1]; noise of statistic 1
MAX_BLOCKINESS = 2.0  # nats; limit of the log-ratio
_MIN_STEP = 0.1 / 255  # code values of [0, 1]; smaller steps are rounding
_SAMPLE_STEP = 3  # pixels between noise samples; 3 and 8 are coprime: all positions in a block occur


def image_statistics(encoded: Tensor) -> Tensor:
    """Darkest value, brightest value, noise and blockiness of an image.

    Args:
        encoded: [B, 3, H, W] sRGB-encoded in [0, 1].

    Returns:
        [B, NUM_STATISTICS]: the darkest and the brightest value in [0, 1], the square root of the standard
        deviation of the noise over `MAX_NOISE`, and the log-ratio of steps between JPEG blocks to steps
        within them, in nats.
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
    """Standard deviation of white noise in all three colours, [B], from second differences in x and y."""
    if min(luma.shape[1:]) < 3:
        return luma.new_zeros(len(luma))
    second_differences = luma[:, 2:] - 2 * luma[:, 1:-1] + luma[:, :-2]
    second_differences = (
        second_differences[:, :, 2:] - 2 * second_differences[:, :, 1:-1] + second_differences[:, :, :-2]
    )
    median = second_differences[:, ::_SAMPLE_STEP, ::_SAMPLE_STEP].abs().flatten(1).median(1).values
    return median / (6 * 0.6745) * 3**0.5  # the mean of three colours has a third of the variance


def _blockiness(luma: Tensor) -> Tensor:
    """Log-ratio of steps in x between blocks of 8 pixels to steps within them. [B] nats."""
    steps = (luma[:, :, 1:] - luma[:, :, :-1]).abs()
    whole = steps.shape[2] // CELL * CELL
    if whole == 0:
        return luma.new_zeros(len(luma))
    # Square roots reduce the weight of the few high steps at edges of the scene.
    rows = (steps[:, :, :whole] + _MIN_STEP).sqrt().mean(1)
    phases = rows.reshape(len(luma), -1, CELL).mean(1)
    log_ratio: Tensor = (phases[:, -1] / phases[:, :-1].mean(1)).log()
    return log_ratio.clamp(-MAX_BLOCKINESS, MAX_BLOCKINESS)
