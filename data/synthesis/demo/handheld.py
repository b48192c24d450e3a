"""Burst of handheld photos of a static scene, with exact ground truth.

Nothing here takes a gradient.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from torch import Tensor

from freezeframe.data.synthesis.scene2d.layered_scene import Layer, Matrix, Scene
from freezeframe.data.synthesis.scene2d.motion import (
    ScalarFunction,
    about,
    rotation,
    smooth_noise,
    translation,
)

_DISPLACEMENT_SIGMA = 8.0  # pixels (standard deviation) between the photos of a burst
_ROLL = 0.012  # radians of roll per pixel of shake, over half the width of the frame


def handheld_scene(picture: Tensor, *, shake: float, seed: int, margin: int = 0) -> Scene:
    """A static image photographed repeatedly by hand: photo k is taken at time k.

    Each photo has its own displacement and its own path of camera shake, of random strength.

    Args:
        picture: [3, H, W] linear RGB without frequencies above the Nyquist limit.
        shake: Typical path length during a frame interval, in pixels.
        seed: Of all paths.
        margin: Pixels on each side outside the frame, so that shaken frames stay within the image.
    """
    _, h, w = picture.shape
    size = (h - 2 * margin, w - 2 * margin)
    centre = ((w - 1) / 2, (h - 1) / 2)

    def homography(t: float) -> Matrix:
        photo = round(t)
        shaken = _photo_path(
            t - photo, shake=shake, half_width=w / 2, rng=np.random.default_rng((seed, photo + 1000))
        )
        framed: Matrix = translation(-margin, -margin) @ about(centre, shaken)
        return framed

    cover = np.ones((h, w, 1), np.float32)
    texture = np.concatenate([picture.permute(1, 2, 0).numpy(), cover], axis=-1, dtype=np.float32)
    layer = Layer(texture=texture, homography=homography, mirrored=True, interpolation=cv2.INTER_LANCZOS4)
    return Scene(layers=(layer,), size=size)


def _photo_path(dt: float, *, shake: float, half_width: float, rng: np.random.Generator) -> Matrix:
    """Motion of the image `dt` intervals after the middle of one photo."""
    displacement = rng.normal(0, _DISPLACEMENT_SIGMA, 2)
    tilt = rng.normal(0, 0.004)
    strength = rng.uniform(0.4, 1.3)
    heading = rng.uniform(0, 2 * math.pi)
    bend = [_centred(smooth_noise(rng, size=0.2 * shake * strength, rate=0.9)) for _ in range(2)]
    spin = rng.normal(0, 1) * _ROLL * shake / half_width * 10
    x, y = (
        strength * shake * part * dt + wave(dt)
        for part, wave in zip((math.cos(heading), math.sin(heading)), bend, strict=True)
    )
    motion: Matrix = translation(displacement[0] + x, displacement[1] + y) @ rotation(tilt + spin * dt)
    return motion


def _centred(wave: ScalarFunction) -> ScalarFunction:
    """`wave`, corrected so that its mean over an open shutter is its value at mid-exposure, 0.

    The blur is then centred on the latent image: a photo and its truth share one pixel grid.
    """
    excess = sum(wave((k + 0.5) / 64 - 0.5) for k in range(64)) / 64 - wave(0)
    return lambda dt: wave(dt) - wave(0) - 12 * excess * dt * dt
