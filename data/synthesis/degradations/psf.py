"""Spatially invariant blur: PSFs that sum to one, and convolution with them.

Blur is a convolution of linear light; on sRGB values it would darken every highlight.

Nothing here takes a gradient.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from torch import Tensor

from freezeframe.data.synthesis.scene2d.motion import smooth_noise

_OVERSAMPLING = 8  # samples per pixel
_CYCLES = 3.0  # per exposure: highest frequency of camera shake


def convolve(linear: Tensor, kernel: Tensor) -> Tensor:
    """Convolve `linear` [3, H, W] with `kernel` [K, K], K odd, with reflected borders."""
    if kernel.numel() == 1:
        return linear
    pixels = np.ascontiguousarray(linear.permute(1, 2, 0).numpy())
    # filter2D computes a correlation.
    filtered = cv2.filter2D(pixels, -1, kernel.flip(0, 1).numpy(), borderType=cv2.BORDER_REFLECT_101)
    return torch.from_numpy(filtered).permute(2, 0, 1).contiguous()


def line_kernel(length: float, *, angle: float) -> Tensor:
    """PSF of uniform motion over `length` pixels at `angle` (radians, from x towards y)."""
    at = _time_offsets(length) * length
    return path_kernel(np.stack([at * math.cos(angle), at * math.sin(angle)]))


def shake_kernel(length: float, *, seed: int) -> Tensor:
    """PSF of random camera shake: a curved path of about `length` pixels, with varying speed."""
    rng = np.random.default_rng(seed)
    waves = [smooth_noise(rng, size=1.0, rate=_CYCLES) for _ in range(2)]
    trajectory = np.array([[wave(float(t)) for t in _time_offsets(length)] for wave in waves])
    path_length = float(np.hypot(*np.diff(trajectory, axis=1)).sum())
    return path_kernel(trajectory * (length / max(path_length, 1e-6)))


def disk_kernel(radius: float) -> Tensor:
    """PSF of defocus: a disk of `radius` pixels."""
    half_size = math.ceil(radius)
    fine = (np.arange((2 * half_size + 1) * _OVERSAMPLING) + 0.5) / _OVERSAMPLING - half_size - 0.5
    inside = np.hypot(fine[:, None], fine[None]) <= max(radius, 0.5)
    side = 2 * half_size + 1
    coverage = inside.reshape(side, _OVERSAMPLING, side, _OVERSAMPLING).mean((1, 3), dtype=np.float32)
    return torch.from_numpy(coverage / coverage.sum())


def path_kernel(trajectory: np.ndarray) -> Tensor:
    """PSF of a trajectory, [K, K], with its centroid in the middle.

    Args:
        trajectory: [2, N] (x, y) in pixels at N equidistant times.
    """
    x, y = trajectory - trajectory.mean(axis=1, keepdims=True)
    half_size = math.ceil(float(max(np.abs(x).max(), np.abs(y).max())))
    kernel = np.zeros((2 * half_size + 3, 2 * half_size + 3), np.float64)
    left, top = np.floor(x), np.floor(y)
    for dx, weight_x in ((0, 1 - (x - left)), (1, x - left)):
        for dy, weight_y in ((0, 1 - (y - top)), (1, y - top)):
            rows, columns = (top + dy + half_size + 1).astype(int), (left + dx + half_size + 1).astype(int)
            np.add.at(kernel, (rows, columns), weight_x * weight_y)
    inner = kernel if half_size else kernel[1:-1, 1:-1]
    return torch.from_numpy((inner / kernel.sum()).astype(np.float32))


def _time_offsets(length: float) -> np.ndarray:
    """Midpoints of equal parts of an exposure, in [-0.5, 0.5]."""
    count = max(1, math.ceil(length * _OVERSAMPLING))
    return np.asarray((np.arange(count) + 0.5) / count - 0.5)
