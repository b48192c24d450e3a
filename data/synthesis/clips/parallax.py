"""Depth in scenes by chance: still things nearer than the background, shifted further by a moving camera."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from freezeframe.data.synthesis.scene2d.cutouts import TEXTURE_SCALE, bar, blob, cutout_layer
from freezeframe.data.synthesis.scene2d.layered_scene import HomographyFunction, Layer, Matrix
from freezeframe.data.synthesis.scene2d.motion import about, rotation, translation
from freezeframe.data.synthesis.scene2d.patterns import Generator, SrgbImage

DEPTH_PROBABILITY = 0.35  # share of scenes with depth
GROUND_PROBABILITY = 0.4  # share of those with ground to stand on
MAX_PARALLAX = 2.5  # times as far as the background are the nearest things shifted
MAX_SPEED = 34.0  # pixels per frame interval, of a camera and of the nearest things; flow follows that


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraMotion:
    """How a camera sees the world at any time: as `orientation`, after everything shifted by its `background_shift`."""

    orientation: HomographyFunction
    background_shift: Callable[[float], tuple[float, float]]  # pixels, of the background
    speed: float  # pixels per frame interval, of the background

    def __call__(self, t: float, parallax: float = 1.0) -> Matrix:
        """World to frame, of things that are shifted `parallax` times as far as the background."""
        x, y = self.background_shift(t)
        matrix: Matrix = self.orientation(t) @ translation(parallax * x, parallax * y)
        return matrix

    def ground_homography(self, t: float, *, horizon: float, gradient: float) -> Matrix:
        """World to frame, of a plane: `gradient` times further shifted with every pixel below `horizon`."""
        x, y = self.background_shift(t)
        sheared = np.array([[1.0, gradient * x, x], [0, 1 + gradient * y, y], [0, 0, 1]])
        matrix: Matrix = self.orientation(t) @ about((0.0, horizon), sheared)
        return matrix


def foreground_layers(
    rng: Generator, pictures: Sequence[SrgbImage], view: CameraMotion, *, side: int
) -> list[Layer]:
    """Ground, poles and lumps in front of the background; in most scenes nothing.

    Args:
        rng: Decides everything.
        pictures: To cut from, as for `random_scene`.
        view: What moves them, and nothing else does.
        side: Of the frame, in pixels.
    """
    if rng.random() >= DEPTH_PROBABILITY:
        return []
    max_parallax = min(MAX_PARALLAX, MAX_SPEED / view.speed) if view.speed else MAX_PARALLAX
    depths = sorted(1 + (max_parallax - 1) * rng.uniform(0.05, 1, int(rng.integers(1, 5))) ** 2)
    ground = (
        [_ground(rng, pictures, view, side=side, max_parallax=max_parallax)]
        if rng.random() < GROUND_PROBABILITY
        else []
    )
    return ground + [_thing(rng, pictures, view, side=side, parallax=float(parallax)) for parallax in depths]


def _ground(
    rng: Generator, pictures: Sequence[SrgbImage], view: CameraMotion, *, side: int, max_parallax: float
) -> Layer:
    """From a horizon down; at the lower edge of the frame shifted up to `max_parallax` times as far."""
    horizon = side * rng.uniform(0.2, 0.7)
    gradient = (max_parallax - 1) * rng.uniform(0.2, 1) / (side - horizon)
    cover = np.ones((TEXTURE_SCALE * side, 2 * TEXTURE_SCALE * side), np.float32)
    placement = translation(side / 2, horizon + side / 2)
    return cutout_layer(
        rng,
        pictures,
        cover,
        lambda t: view.ground_homography(t, horizon=horizon, gradient=gradient) @ placement,
        mover=False,
    )


def _thing(
    rng: Generator, pictures: Sequence[SrgbImage], view: CameraMotion, *, side: int, parallax: float
) -> Layer:
    upright = rng.random() < 0.5
    mask = (
        bar(side * rng.uniform(0.15, 0.6), rng.uniform(2, 14)) if upright else blob(rng, rng.uniform(10, 60))
    )
    lean = math.pi / 2 + rng.normal(0, 0.1)
    placement = translation(*rng.uniform(0, side, 2).tolist()) @ rotation(lean)
    return cutout_layer(rng, pictures, mask, lambda t: view(t, parallax) @ placement, mover=False)
