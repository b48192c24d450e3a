"""What a sensor and a file do to a picture: noise, darkness, compression.

Nothing here takes a gradient.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from freezeframe.data.synthesis.demo.scenes import with_noise

from .camera_isp import jpeg


def gaussian_noise(codes: Tensor, *, sigma: float, seed: int) -> Tensor:
    """White noise of standard deviation `sigma` on sRGB codes in [0, 1], as denoisers are judged by.

    [3, H, W] both ways; clipped, for a file holds nothing beyond black and white.
    """
    chance = torch.Generator().manual_seed(seed)
    return (codes + sigma * torch.randn(codes.shape, generator=chance)).clamp(0, 1)


def shot_noise(light: Tensor, *, strength: float, seed: int) -> Tensor:
    """Counted photons: variance in proportion to light. [3, H, W] linear RGB both ways.

    Args:
        light: Noise-free.
        strength: One over the electrons of a white pixel. 0.01 is a telephone at night.
        seed: Chooses the noise.
    """
    return with_noise(light, shot=strength, read=strength / 4, seed=seed)


def darkened(light: Tensor, *, gain: float, seed: int) -> Tensor:
    """Too little light, not amplified: `gain` of it, and the noise that its few photons have.

    [3, H, W] linear RGB both ways; gain 1 is enough light, and leaves it alone.
    """
    return shot_noise(light * gain, strength=0.002 * (1 - gain), seed=seed)


def compressed(codes: Tensor, *, quality: int) -> Tensor:
    """[3, H, W] sRGB codes in [0, 1] after a way through a JPEG file of that quality, colour at half size."""
    stored = np.ascontiguousarray((codes * 255).round().byte().permute(1, 2, 0).numpy())
    back = np.ascontiguousarray(jpeg(stored, quality))
    return torch.from_numpy(back).permute(2, 0, 1).float() / 255
