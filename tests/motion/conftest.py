"""A scene with natural image statistics, and a camera."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.pans import pan_exposure

SIZE = (288, 448)  # of the frames, height and width
MARGIN = 120  # pixels of scene outside each side of the frame at time 0

Move = Callable[[float], np.ndarray]  # time in frame intervals -> [3, 3] homography from time 0


@pytest.fixture(scope="session")
def scene() -> np.ndarray:
    """Dead leaves (Lee, Mumford & Huang 2001): overlapping discs have the statistics of photographs."""
    rng = np.random.default_rng(7)
    height, width = (2 * (side + 2 * MARGIN) for side in SIZE)
    picture = np.zeros((height, width, 3), np.float32)
    for _ in range(4000):
        radius = int(8 / (rng.uniform(0.02, 1) ** 0.9))
        centre = int(rng.integers(width)), int(rng.integers(height))
        cv2.circle(picture, centre, radius, rng.uniform(0.02, 0.9, 3).tolist(), -1)
    return cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="session")
def film(scene: np.ndarray) -> Callable[..., Tensor]:
    """`film(move, times, shutter=0, noise=0, of=scene)`: frames [T, 3, H, W] linear RGB."""

    def expose(
        move: Move, times: list[float], *, shutter: float = 0.0, noise: float = 0.0, of: np.ndarray = scene
    ) -> Tensor:
        frames = [exposure(of, move, time, shutter) if shutter else view(of, move(time)) for time in times]
        return grainy(np.stack(frames), noise)

    return expose


def exposure(scene: np.ndarray, move: Move, time: float, shutter: float) -> np.ndarray:
    """The mean of the views while the shutter is open."""
    start, middle, end = moments = [move(time + shutter * k) for k in (-0.5, 0.0, 0.5)]
    shifts_only = all(np.array_equal(matrix[:, :2], np.eye(3)[:, :2]) for matrix in moments)
    if shifts_only and np.allclose(start + end, 2 * middle):
        blurred = pan_exposure(scene, middle[:2, 2], (end - start)[:2, 2])
        return blurred[MARGIN:-MARGIN, MARGIN:-MARGIN].clip(0, 1)
    offsets = [shutter * ((k + 0.5) / 24 - 0.5) for k in range(24)]
    return np.mean([view(scene, move(time + offset)) for offset in offsets], axis=0)


def view(scene: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    offset = np.array([[1, 0, -MARGIN], [0, 1, -MARGIN], [0, 0, 1.0]])
    flags = cv2.INTER_LANCZOS4
    return cv2.warpPerspective(scene, matrix @ offset, SIZE[::-1], flags=flags).clip(0, 1)


def grainy(image: np.ndarray, noise: float) -> Tensor:
    """Add noise of a standard deviation in gamma-coded units."""
    coded = image**0.5 + np.random.default_rng(0).normal(0, noise, image.shape) if noise else image**0.5
    linear = np.clip(coded, 0, 1).astype(np.float32) ** 2
    return torch.from_numpy(linear).permute(0, 3, 1, 2).contiguous()


def pan(dx: float, dy: float) -> Move:
    """Translation by (dx, dy) pixels per frame interval."""
    return lambda t: np.array([[1, 0, dx * t], [0, 1, dy * t], [0, 0, 1.0]])


@pytest.fixture(scope="session")
def panning() -> Callable[[float, float], Move]:
    return pan
