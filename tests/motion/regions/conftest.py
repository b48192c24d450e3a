"""Drawn clips of movers before a moving picture, as lumas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

SIZE = (200, 340)  # of the frames, height and width
MARGIN = 150  # pixels of the picture outside each side of the frame

Path = Callable[[float], tuple[float, float]]  # time in frame intervals -> (x, y) pixels
SUBFRAMES = 9


@dataclass(frozen=True, kw_only=True)
class Disc:
    """An ellipse of one colour; its path is that in the picture, which the camera may move."""

    radii: tuple[float, float]
    path: Path
    code: float = 15.0


@dataclass(frozen=True, kw_only=True)
class Drawing:
    frames: int = 14
    discs: Sequence[Disc] = ()
    camera: Path = field(default=lambda t: (0.0, 0.0))  # position of the frame in the picture
    shutter: float = 0.6
    noise: float = 1.5  # code values
    light: Callable[[int], float] = field(default=lambda frame: 1.0)


@pytest.fixture(scope="session")
def draw(scene: np.ndarray) -> Callable[[Drawing], list[Tensor]]:
    luma = (np.sqrt(scene.mean(-1)) * 255).astype(np.float32)

    def render(drawing: Drawing) -> list[Tensor]:
        rng = np.random.default_rng(3)
        frames = []
        for t in range(drawing.frames):
            times = t + drawing.shutter * ((np.arange(SUBFRAMES) + 0.5) / SUBFRAMES - 0.5)
            image = exposure(luma, drawing, times) * drawing.light(t)
            noisy = image + rng.normal(0, drawing.noise, image.shape) + 0.5
            frames.append(torch.from_numpy(np.clip(noisy, 0, 255).astype(np.uint8)))
        return frames

    return render


def exposure(luma: np.ndarray, drawing: Drawing, times: np.ndarray) -> np.ndarray:
    cameras = [drawing.camera(t) for t in times]
    views = {}
    for x, y in set(cameras):
        matrix = np.array([[1, 0, -MARGIN - x], [0, 1, -MARGIN - y]])
        views[x, y] = cv2.warpAffine(luma, matrix, SIZE[::-1])
    image = sum(views.values()) / len(views)
    for disc in drawing.discs:
        centres = np.array([np.subtract(disc.path(t), c) for t, c in zip(times, cameras, strict=True)])
        add_disc(image, disc, centres)
    return image


def add_disc(image: np.ndarray, disc: Disc, centres: np.ndarray) -> None:
    reach = np.array(disc.radii) + 2
    left, top = np.maximum(np.floor(centres.min(0) - reach), 0).astype(int)
    right, bottom = np.minimum(np.ceil(centres.max(0) + reach), SIZE[::-1]).astype(int)
    if left >= right or top >= bottom:
        return
    rows, columns = np.ogrid[top:bottom, left:right]
    distances = [
        np.hypot((columns - x) / disc.radii[0], (rows - y) / disc.radii[1]) for x, y in centres.tolist()
    ]
    cover = np.mean([np.clip((1 - d) * min(disc.radii) + 0.5, 0, 1) for d in distances], axis=0)
    part = image[top:bottom, left:right]
    part += (disc.code - part) * cover
