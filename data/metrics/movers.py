"""The part of a frame that movers cover, for clips of a still camera with ground truth.

Nothing here takes a gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from freezeframe.data.color import SRGB, to_encoded

_MIN_DIFFERENCE = 7 / 255  # encoded; noise and compression stay below it in the mean over a window
_WINDOW = 5  # pixels: side of that window


def static_background(frames: Tensor) -> Tensor:
    """Median over time of [T, 3, H, W] frames: the background, where movers cover it in fewer than half."""
    return frames.median(dim=0).values


def mover_mask(blurred: Tensor, truth: Tensor, background: Tensor) -> Tensor:
    """Where a blurred frame or its ground truth shows something else than the background.

    During the exposure a mover passes over more pixels than it covers at one instant: the mask holds the
    mover and its blur, and a margin of about half a window.

    Args:
        blurred: [3, H, W] linear RGB.
        truth: The same frame without motion blur, [3, H, W] linear RGB.
        background: The same view without movers, [3, H, W] linear RGB.

    Returns:
        [H, W] bool.
    """
    encoded = to_encoded(torch.stack([blurred, truth, background]).clamp(0, 1), SRGB)
    # Signed differences are averaged, so that noise cancels out.
    mean = torch.nn.functional.avg_pool2d(
        encoded[:2] - encoded[2], _WINDOW, stride=1, padding=_WINDOW // 2, count_include_pad=False
    )
    return mean.abs().amax(dim=(0, 1)) > _MIN_DIFFERENCE
