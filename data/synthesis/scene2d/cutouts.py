"""What scenes by chance are made of: pieces of pictures, cut out by soft masks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch

from freezeframe.data.color import SRGB, to_light

from .layered_scene import Array, Layer, Motion
from .motion import shift, zoom
from .patterns import Chance, Codes, pattern

DRAWN = 0.25  # share of pictures that are drawn, not photographed
SOFT = 0.8  # standard deviation in texture pixels: what a lens and a pixel's own area leave of an edge
FINE = 2  # texture pixels per pixel of a piece


def piece(rng: Chance, pictures: Sequence[Codes], mask: Array, place: Motion, *, mover: bool = True) -> Layer:
    """What `mask`, [h, w] at `FINE` texture pixels per pixel, cuts from a picture, its middle at `place`."""
    height, width = mask.shape
    texture = cut(rng, pictures, size=(max(height, width),) * 2)
    texture = np.asarray(cv2.resize(texture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    home = zoom(1 / FINE) @ shift(-width / 2, -height / 2)
    return Layer(texture=covered(texture, mask), place=lambda t: place(t) @ home, mover=mover)


def cut(rng: Chance, pictures: Sequence[Codes], *, size: tuple[int, int]) -> Codes:
    """A piece of a picture, up to `size` rows and columns, turned and mirrored by chance; or one drawn."""
    if not pictures or rng.random() < DRAWN:
        return pattern(rng, side=max(size))
    picture = pictures[int(rng.integers(len(pictures)))]
    height, width = min(size[0], picture.shape[0]), min(size[1], picture.shape[1])
    top = int(rng.integers(picture.shape[0] - height + 1))
    left = int(rng.integers(picture.shape[1] - width + 1))
    piece = np.rot90(picture[top : top + height, left : left + width], int(rng.integers(4)))
    piece = piece[:, ::-1] if rng.random() < 0.5 else piece
    return piece[..., rng.permutation(3)] if rng.random() < 0.2 else piece


def covered(codes: Codes, mask: Array | None, *, soft: float = SOFT) -> Array:
    """[h, w, 4] light times cover, and cover; smoothed to what a frame's pixel can hold.

    `soft`: standard deviation in texture pixels.
    """
    light = to_light(torch.from_numpy(np.ascontiguousarray(codes)).float() / 255, SRGB).numpy()
    cover = np.ones(codes.shape[:2], np.float32) if mask is None else mask
    sheet = np.concatenate([light * cover[..., None], cover[..., None]], axis=-1, dtype=np.float32)
    return np.asarray(cv2.GaussianBlur(sheet, (0, 0), soft, borderType=cv2.BORDER_REPLICATE), np.float32)


def disc(radius: float) -> Array:
    """A disc as a mask, like `bar`."""
    return bar(2 * radius, 2 * radius)


def bar(long: float, thick: float) -> Array:
    """A rounded bar as a mask with two texture pixels per pixel, and a margin of emptiness."""
    width, height = math.ceil(2 * long) + 8, math.ceil(2 * thick) + 8
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = x - (width - 1) / 2, y - (height - 1) / 2
    beyond = np.maximum(np.abs(x) - (long - thick), 0)
    return np.asarray(np.clip(thick - np.hypot(beyond, y) + 0.5, 0, 1), np.float32)


def blob(rng: Chance, reach: float) -> Array:
    """A lump with a wavy outline."""
    side = math.ceil(4 * reach) + 8
    y, x = np.mgrid[:side, :side].astype(np.float32) - (side - 1) / 2
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    waves = range(2, 6)
    edge = 1.3 * reach + sum(
        rng.normal(0, reach / 7) * np.cos(k * angle + rng.uniform(0, 2 * math.pi)) for k in waves
    )
    return np.asarray(np.clip(edge - radius + 0.5, 0, 1), np.float32)
