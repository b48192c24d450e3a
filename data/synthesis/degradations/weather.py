"""Rain and haze, in linear light.

Nothing here takes a gradient.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from .psf import convolve, line_kernel

_DROP_DENSITY = 0.012  # streaks per pixel at amount 1
_MAX_TILT = 0.35  # radians between streaks and the vertical


def rain(linear: Tensor, *, amount: float, seed: int) -> Tensor:
    """Add motion-blurred rain streaks, which attenuate the scene and add light of the sky.

    Args:
        linear: [3, H, W] linear RGB in [0, 1].
        amount: 0 is the identity, 1 a downpour.
        seed: Of the positions, length and tilt.
    """
    if amount == 0:
        return linear
    rng = np.random.default_rng(seed)
    angle, length = np.pi / 2 + rng.uniform(-_MAX_TILT, _MAX_TILT), rng.uniform(10, 30)
    cover = np.zeros(linear.shape[1:], np.float32)
    for sigma, fraction in ((0.5, 0.75), (1.0, 0.25)):
        drops = rng.random(cover.shape, np.float32) < _DROP_DENSITY * amount * fraction
        drop_brightness = np.where(drops, rng.uniform(0.5, 1.5, cover.shape), 0).astype(np.float32)
        cover += cv2.GaussianBlur(drop_brightness, (0, 0), sigma) * length * sigma
    streaks = convolve(torch.from_numpy(cover)[None].expand(3, -1, -1), line_kernel(length, angle=angle))
    veil = (0.5 * streaks).clamp(max=0.8)
    return linear * (1 - veil) + rng.uniform(0.6, 1.0) * veil


def haze(linear: Tensor, *, depth: float, seed: int) -> Tensor:
    """Atmospheric scattering (Koschmieder 1924): light * t + air * (1 - t), t = exp(-depth * distance).

    Args:
        linear: [3, H, W] linear RGB in [0, 1].
        depth: Optical depth of the farthest point; 0 is the identity.
        seed: Of the distances, and of the colour of the air.
    """
    rng = np.random.default_rng(seed)
    distance = _distance_map(linear.shape[1:], rng)
    air = torch.tensor(rng.uniform(0.5, 0.9) + rng.uniform(-0.04, 0.04, 3), dtype=torch.float32)
    transmission = torch.exp(-depth * distance)
    return linear * transmission + air[:, None, None] * (1 - transmission)


def _distance_map(size: torch.Size, rng: np.random.Generator) -> Tensor:
    """[H, W] smooth map in [0.2, 1], on average increasing upwards."""
    height, width = size
    coarse = rng.uniform(0, 1, (4, 4)).astype(np.float32) + np.linspace(rng.uniform(0, 2), 0, 4)[:, None]
    smooth_map = cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    near, far = float(smooth_map.min()), float(smooth_map.max())
    return torch.from_numpy(0.2 + 0.8 * (smooth_map - near) / max(far - near, 1e-6))
