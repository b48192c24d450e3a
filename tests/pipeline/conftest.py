"""A place to film: textured like a photograph, panned past a shutter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from freezeframe.data.types import Clip, Flow, Motion
from tests.support.pans import pan_exposure

SIZE = (96, 128)  # of the frames, height and width
MARGIN = 64  # pixels of scene beyond each side of a frame


def dead_leaves(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """[H, W, 3] linear light: overlapping discs have the statistics of photographs (Lee et al. 2001)."""
    rng = np.random.default_rng(seed)
    height, width = (2 * (side + 2 * MARGIN) for side in size)
    picture = np.zeros((height, width, 3), np.float32)
    for _ in range(3000):
        radius = int(6 / (rng.uniform(0.02, 1) ** 0.9))
        centre = int(rng.integers(width)), int(rng.integers(height))
        cv2.circle(picture, centre, radius, rng.uniform(0.03, 0.8, 3).tolist(), -1)
    return cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="session")
def leaves() -> np.ndarray:
    return dead_leaves(5)


@pytest.fixture(scope="session")
def wide_leaves() -> np.ndarray:
    """Room for spectra: frames of 192x256."""
    return dead_leaves(9, (192, 256))


Film = Callable[..., Tensor]


@pytest.fixture(scope="session")
def film(leaves: np.ndarray) -> Film:
    """`film(velocity, times, shutter=0, of=leaves)`: frames [T, 3, H, W] of a scene that moves steadily."""

    def shoot(
        velocity: Sequence[float], times: Sequence[float], *, shutter: float = 0.0, of: np.ndarray = leaves
    ) -> Tensor:
        frames = [view(of, velocity, time, shutter) for time in times]
        return torch.from_numpy(np.stack(frames).clip(1e-3, None)).permute(0, 3, 1, 2).contiguous()

    return shoot


def view(scene: np.ndarray, velocity: Sequence[float], time: float, shutter: float = 0.0) -> np.ndarray:
    if shutter:
        speed = np.asarray(velocity)
        return pan_exposure(scene, speed * time, speed * shutter)[MARGIN:-MARGIN, MARGIN:-MARGIN]
    matrix = np.array([[1, 0, velocity[0] * time - MARGIN], [0, 1, velocity[1] * time - MARGIN]], float)
    size = scene.shape[1] - 2 * MARGIN, scene.shape[0] - 2 * MARGIN
    return cv2.warpAffine(scene, matrix, size, flags=cv2.INTER_LANCZOS4)


@pytest.fixture(scope="session")
def steady() -> Callable[..., Tensor]:
    """`steady((dx, dy))`: [2, H, W], the same vector everywhere."""

    def field(vector: Sequence[float], size: tuple[int, int] = SIZE) -> Tensor:
        return torch.tensor(vector, dtype=torch.float32).view(2, 1, 1).expand(2, *size).contiguous()

    return field


@pytest.fixture(scope="session")
def known_motion(steady) -> Callable[..., Motion]:
    """`known_motion(velocity, count, shutter)`: the truth about a steady pan of `count` frames."""

    def motion(velocity: Sequence[float], count: int, *, shutter: float) -> Motion:
        along = steady(velocity)
        sure = torch.ones(along.shape[1:])
        flows = {
            (i, j): Flow(uv=(j - i) * along, confidence=sure)
            for i in range(count)
            for j in range(count)
            if i != j
        }
        return Motion(
            flows=flows,
            velocity=along.expand(count, *along.shape),
            independent_motion=torch.zeros(count, *along.shape[1:]),
            shutter=shutter,
        )

    return motion


@pytest.fixture(scope="session")
def clip_of() -> Callable[..., Clip]:
    """`clip_of(images, shutter)`: a clip at 25 frames per second, all of it to be written."""

    def clip(images: Tensor, *, shutter: float) -> Clip:
        times = tuple(Fraction(i, 25) for i in range(len(images)))
        return Clip(images=images, times=times, shutter=shutter, owned=range(len(images)))

    return clip
