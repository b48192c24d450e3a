"""What a sensor and a file do to a picture: noise, darkness, compression.

Nothing here takes a gradient.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from freezeframe.data.synthesis.demo.scenes import add_poisson_gaussian_noise

from .camera_isp import jpeg


def gaussian_noise(encoded: Tensor, *, sigma: float, seed: int) -> Tensor:
    """White noise of standard deviation `sigma` on sRGB codes in [0, 1], as denoisers are judged by.

    [3, H, W] both ways; clipped, for a file holds nothing beyond black and white.
    """
    generator = torch.Generator().manual_seed(seed)
    return (encoded + sigma * torch.randn(encoded.shape, generator=generator)).clamp(0, 1)


def shot_noise(linear: Tensor, *, strength: float, seed: int) -> Tensor:
    """Counted photons: variance in proportion to light. [3, H, W] linear RGB both ways.

    Args:
        linear: Noise-free.
        strength: One over the electrons of a white pixel. 0.01 is a telephone at night.
        seed: Chooses the noise.
    """
    return add_poisson_gaussian_noise(linear, shot=strength, read=strength / 4, seed=seed)


def simulate_low_light(linear: Tensor, *, gain: float, seed: int) -> Tensor:
    """Too little light, not amplified: `gain` of it, and the noise that its few photons have.

    [3, H, W] linear RGB both ways; gain 1 is enough light, and leaves it alone.
    """
    return shot_noise(linear * gain, strength=0.002 * (1 - gain), seed=seed)


def compress_jpeg(encoded: Tensor, *, quality: int) -> Tensor:
    """[3, H, W] sRGB codes in [0, 1] after a way through a JPEG file of that quality, colour at half size."""
    srgb = np.ascontiguousarray((encoded * 255).round().byte().permute(1, 2, 0).numpy())
    decoded = np.ascontiguousarray(jpeg(srgb, quality))
    return torch.from_numpy(decoded).permute(2, 0, 1).float() / 255
