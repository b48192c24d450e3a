"""Steady pans: their exposures are exact, and take one transform instead of dozens of views."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def pan_exposure(scene: np.ndarray, centre: Sequence[float], path: Sequence[float]) -> np.ndarray:
    """Average a picture while it moves straight and steadily: its spectrum is multiplied by a sinc.

    Args:
        scene: It repeats itself beyond its sides. [H, W, C].
        centre: Displacement (x, y) in the middle of the exposure, in pixels.
        path: Displacement (x, y) from the start of the exposure to its end, in pixels.
    """
    height, width = scene.shape[:2]
    y, x = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    phase, cycles = (x * across + y * down for across, down in (centre, path))
    transfer = (np.exp(-2j * np.pi * phase) * np.sinc(cycles)).astype(np.complex64)
    spectrum = np.fft.rfft2(scene, axes=(0, 1))
    return np.fft.irfft2(spectrum * transfer[..., None], (height, width), axes=(0, 1)).astype(scene.dtype)
