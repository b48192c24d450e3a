"""Fast action and hand shake with exactly known truth: for samples, self-checks, tests and benchmarks.

`sports_scene` draws a whole match; `handheld_scene` shakes any picture. Both give a `Scene`: its sharp
frames, its exposures, its flows and its movers at any time. `add_poisson_gaussian_noise` adds what a sensor adds.

Nothing here takes a gradient.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from torch import Tensor

from freezeframe.data.synthesis.scene2d.layered_scene import Layer, Matrix, Scene
from freezeframe.data.synthesis.scene2d.motion import (
    ScalarFunction,
    about,
    constant_velocity,
    rotation,
    smooth_noise,
    translation,
)

from .bookshelf import bookshelf
from .football import sports_scene

__all__ = [
    "Layer",
    "Scene",
    "add_poisson_gaussian_noise",
    "bookshelf",
    "constant_velocity",
    "handheld_scene",
    "sports_scene",
]

_AIM_SIGMA = 8.0  # pixels (standard deviation) by which photos of a burst miss each other
_ROLL = 0.012  # radians of roll per pixel of shake, over a frame's half width


def handheld_scene(picture: Tensor, *, shake: float, seed: int, margin: int = 0) -> Scene:
    """A still picture photographed by hand, again and again: photo k is taken at time k.

    Each photo is aimed a little differently and shaken along a path of its own; some are luckier than others.

    Args:
        picture: [3, H, W] linear RGB without detail finer than its pixels.
        shake: Typical way of a point during a whole frame interval, in pixels.
        seed: Chooses all paths.
        margin: Pixels on each side that the frame does not show, so that shake finds something there.
    """
    _, h, w = picture.shape
    size = (h - 2 * margin, w - 2 * margin)
    centre = ((w - 1) / 2, (h - 1) / 2)

    def homography(t: float) -> Matrix:
        photo = round(t)
        aimed = _photo_path(
            t - photo, shake=shake, half_width=w / 2, rng=np.random.default_rng((seed, photo + 1000))
        )
        framed: Matrix = translation(-margin, -margin) @ about(centre, aimed)
        return framed

    cover = np.ones((h, w, 1), np.float32)
    texture = np.concatenate([picture.permute(1, 2, 0).numpy(), cover], axis=-1, dtype=np.float32)
    layer = Layer(texture=texture, homography=homography, mirrored=True, interpolation=cv2.INTER_LANCZOS4)
    return Scene(layers=(layer,), size=size)


def add_poisson_gaussian_noise(image: Tensor, *, shot: float, read: float, seed: int) -> Tensor:
    """`image` as a sensor counts it: variance shot * light + read^2, clipped to [0, 1].

    Args:
        image: [3, H, W] linear RGB.
        shot: One over the electrons of a white pixel.
        read: Noise in the dark, standard deviation as a part of white.
        seed: Chooses the noise.
    """
    generator = torch.Generator().manual_seed(seed)
    sigma = (shot * image.clamp(min=0) + read**2).sqrt()
    return (image + sigma * torch.randn(image.shape, generator=generator)).clamp(0, 1)


def _photo_path(dt: float, *, shake: float, half_width: float, rng: np.random.Generator) -> Matrix:
    """Where one photo's shake has carried the picture `dt` intervals after its own middle."""
    aim = rng.normal(0, _AIM_SIGMA, 2)
    tilt = rng.normal(0, 0.004)
    luck = rng.uniform(0.4, 1.3)
    heading = rng.uniform(0, 2 * math.pi)
    bend = [_centred(smooth_noise(rng, size=0.2 * shake * luck, rate=0.9)) for _ in range(2)]
    spin = rng.normal(0, 1) * _ROLL * shake / half_width * 10
    x, y = (
        luck * shake * part * dt + wave(dt)
        for part, wave in zip((math.cos(heading), math.sin(heading)), bend, strict=True)
    )
    moved: Matrix = translation(aim[0] + x, aim[1] + y) @ rotation(tilt + spin * dt)
    return moved


def _centred(wave: ScalarFunction) -> ScalarFunction:
    """`wave` bent so that its mean over an open shutter is where it is at mid-exposure, that is, 0.

    A smear then lies evenly around the true picture, and a photo and its truth share one grid.
    """
    excess = sum(wave((k + 0.5) / 64 - 0.5) for k in range(64)) / 64 - wave(0)
    return lambda dt: wave(dt) - wave(0) - 12 * excess * dt * dt
