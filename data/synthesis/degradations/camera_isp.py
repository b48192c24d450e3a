"""Camera model: noise, sharpening, tone curve and compression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from freezeframe.data.color import SRGB, to_encoded, to_linear
from freezeframe.data.srgb import SrgbImage, linear_to_srgb

from .codec import h264, jpeg
from .sensor import add_poisson_gaussian_noise


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """Parameters of a camera; by default it only quantises to 8 bits."""

    contrast: float = 1.0  # exponent on linear light: below 1, the tone curve is flatter than sRGB
    shot: float = 0.0  # photon noise: one over the electrons of a white pixel
    read: float = 0.0  # read noise: standard deviation as a fraction of white
    halo: float = 0.0  # amount of unsharp masking
    jpeg: int | None = None  # quality of motion JPEG
    h264: int | None = None  # constant rate factor

    @classmethod
    def random(cls, rng: np.random.Generator) -> Camera:
        """Draw a camera: about half are noisy, about half use a video codec."""
        noisy = rng.random() < 0.45
        codec = rng.choice(["no", "jpeg", "h264"], p=[0.4, 0.12, 0.48])
        return cls(
            contrast=float(rng.uniform(0.65, 1.15)),
            shot=float(10 ** rng.uniform(-4.5, -2.8)) if noisy else 0.0,
            read=float(10 ** rng.uniform(-3.5, -2.3)) if noisy else 0.0,
            halo=float(rng.uniform(0.1, 0.6)) if rng.random() < 0.15 else 0.0,
            jpeg=int(rng.integers(60, 96)) if codec == "jpeg" else None,
            h264=int(rng.integers(14, 31)) if codec == "h264" else None,
        )


def apply_tone_curve(linear: Tensor, camera: Camera) -> SrgbImage:
    """[H, W, 3] uint8 sRGB of [3, H, W] linear RGB under the tone curve of `camera`, without its defects."""
    return linear_to_srgb(linear.clamp(0, 1) ** camera.contrast)


def record_clip(exposures: Sequence[Tensor], camera: Camera, *, seed: int) -> list[SrgbImage]:
    """Decoded frames of a clip recorded by `camera`.

    Args:
        exposures: Noise-free frames, [3, H, W] linear RGB each; even height and width.
        camera: Parameters.
        seed: Of the noise.
    """
    noisy = [
        add_poisson_gaussian_noise(linear, shot=camera.shot, read=camera.read, seed=seed + i)
        for i, linear in enumerate(exposures)
    ]
    frames = [apply_tone_curve(_unsharp_mask(linear, camera.halo), camera) for linear in noisy]
    if camera.jpeg is not None:
        return [jpeg(frame, camera.jpeg) for frame in frames]
    return frames if camera.h264 is None else h264(frames, crf=camera.h264)


def _unsharp_mask(linear: Tensor, amount: float) -> Tensor:
    """Unsharp masking of the encoded values, as in cameras."""
    if amount == 0:
        return linear
    encoded = to_encoded(linear.clamp(0, 1), SRGB).permute(1, 2, 0).numpy()
    sharper = encoded + amount * (encoded - cv2.GaussianBlur(encoded, (0, 0), 1.0))
    return to_linear(torch.from_numpy(np.clip(sharper, 0, 1)).permute(2, 0, 1), SRGB)
