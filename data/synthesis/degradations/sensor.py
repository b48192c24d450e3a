"""Degradations by the sensor: noise and low light.

Nothing here takes a gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor


def add_poisson_gaussian_noise(image: Tensor, *, shot: float, read: float, seed: int) -> Tensor:
    """Add photon and read noise, of variance shot * light + read^2; clipped to [0, 1].

    Args:
        image: [3, H, W] linear RGB.
        shot: One over the number of electrons of a white pixel.
        read: Standard deviation in the dark, as a fraction of white.
        seed: Of the noise.
    """
    generator = torch.Generator().manual_seed(seed)
    sigma = (shot * image.clamp(min=0) + read**2).sqrt()
    return (image + sigma * torch.randn(image.shape, generator=generator)).clamp(0, 1)


def shot_noise(linear: Tensor, *, strength: float, seed: int) -> Tensor:
    """Add photon noise, with read noise in proportion. [3, H, W] linear RGB both ways.

    Args:
        linear: Noise-free.
        strength: One over the number of electrons of a white pixel. 0.01 is a telephone at night.
        seed: Of the noise.
    """
    return add_poisson_gaussian_noise(linear, shot=strength, read=strength / 4, seed=seed)


def gaussian_noise(encoded: Tensor, *, sigma: float, seed: int) -> Tensor:
    """Add white Gaussian noise to sRGB values in [0, 1], the benchmark of denoisers; clipped to [0, 1].

    Args:
        encoded: [3, H, W] sRGB.
        sigma: Standard deviation.
        seed: Of the noise.
    """
    generator = torch.Generator().manual_seed(seed)
    return (encoded + sigma * torch.randn(encoded.shape, generator=generator)).clamp(0, 1)


def simulate_low_light(linear: Tensor, *, gain: float, seed: int) -> Tensor:
    """Scale light by `gain`, without amplification, and add the noise of the fewer photons.

    [3, H, W] linear RGB both ways; gain 1 is the identity.
    """
    return shot_noise(linear * gain, strength=0.002 * (1 - gain), seed=seed)
