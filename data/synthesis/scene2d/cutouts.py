"""Layers of random scenes: textures of photographs or patterns under soft masks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch

from freezeframe.data.color import SRGB, to_linear
from freezeframe.data.srgb import SrgbImage

from .layered_scene import Array, HomographyFunction, Layer
from .motion import translation, zoom
from .patterns import Generator, pattern

PATTERN_PROBABILITY = 0.25  # of a drawn instead of a photographed texture
PIXEL_SIGMA = 0.8  # texture pixels: standard deviation of the PSF of lens and pixel aperture
TEXTURE_SCALE = 2  # texture pixels per frame pixel


def cutout_layer(
    rng: Generator,
    pictures: Sequence[SrgbImage],
    mask: Array,
    homography: HomographyFunction,
    *,
    mover: bool = True,
) -> Layer:
    """A layer with a random texture under `mask`, [h, w] at `TEXTURE_SCALE` texture pixels per pixel.

    `homography` maps coordinates with the origin in the centre of the mask to the frame.
    """
    height, width = mask.shape
    texture = random_texture(rng, pictures, size=(max(height, width),) * 2)
    texture = np.asarray(cv2.resize(texture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    placement = zoom(1 / TEXTURE_SCALE) @ translation(-width / 2, -height / 2)
    return Layer(
        texture=premultiply(texture, mask), homography=lambda t: homography(t) @ placement, mover=mover
    )


def random_texture(
    rng: Generator,
    pictures: Sequence[SrgbImage],
    *,
    size: tuple[int, int],
    pattern_probability: float = PATTERN_PROBABILITY,
) -> SrgbImage:
    """A random crop of an image, of at most `size` rows and columns, rotated and flipped; or a pattern."""
    if not pictures or rng.random() < pattern_probability:
        return pattern(rng, side=max(size))
    picture = pictures[int(rng.integers(len(pictures)))]
    height, width = min(size[0], picture.shape[0]), min(size[1], picture.shape[1])
    top = int(rng.integers(picture.shape[0] - height + 1))
    left = int(rng.integers(picture.shape[1] - width + 1))
    crop = np.rot90(picture[top : top + height, left : left + width], int(rng.integers(4)))
    crop = crop[:, ::-1] if rng.random() < 0.5 else crop
    return crop[..., rng.permutation(3)] if rng.random() < 0.2 else crop


def detail(encoded: SrgbImage) -> float:
    """Mean absolute Laplacian, in 8-bit code values: parts of a photograph are out of focus, or sky."""
    return float(np.abs(cv2.Laplacian(encoded, cv2.CV_32F)).mean())


def premultiply(encoded: SrgbImage, mask: Array | None, *, sigma: float = PIXEL_SIGMA) -> Array:
    """[h, w, 4] premultiplied linear RGB and alpha, low-passed by a Gaussian of `sigma` texture pixels."""
    linear = to_linear(torch.from_numpy(np.ascontiguousarray(encoded)).float() / 255, SRGB).numpy()
    cover = np.ones(encoded.shape[:2], np.float32) if mask is None else mask
    premultiplied = np.concatenate([linear * cover[..., None], cover[..., None]], axis=-1, dtype=np.float32)
    return np.asarray(
        cv2.GaussianBlur(premultiplied, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.float32
    )


def disc(radius: float) -> Array:
    """Mask of a disc of `radius` pixels."""
    return bar(2 * radius, 2 * radius)


def bar(long: float, thick: float) -> Array:
    """Mask of a rounded bar, pixels, with a transparent margin; two texture pixels per pixel."""
    width, height = math.ceil(2 * long) + 8, math.ceil(2 * thick) + 8
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = x - (width - 1) / 2, y - (height - 1) / 2
    beyond = np.maximum(np.abs(x) - (long - thick), 0)
    return np.asarray(np.clip(thick - np.hypot(beyond, y) + 0.5, 0, 1), np.float32)


def blob(rng: Generator, mean_radius: float) -> Array:
    """Mask of a blob with an undulating outline."""
    side = math.ceil(4 * mean_radius) + 8
    y, x = np.mgrid[:side, :side].astype(np.float32) - (side - 1) / 2
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    waves = range(2, 6)
    edge = 1.3 * mean_radius + sum(
        rng.normal(0, mean_radius / 7) * np.cos(k * angle + rng.uniform(0, 2 * math.pi)) for k in waves
    )
    return np.asarray(np.clip(edge - radius + 0.5, 0, 1), np.float32)
