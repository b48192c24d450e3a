"""Parallax in random scenes: static layers in front of the background."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from freezeframe.data.srgb import SrgbImage
from freezeframe.data.synthesis.scene2d.cutouts import TEXTURE_SCALE, bar, blob, cutout_layer
from freezeframe.data.synthesis.scene2d.layered_scene import HomographyFunction, Layer, Matrix
from freezeframe.data.synthesis.scene2d.motion import about, rotation, translation
from freezeframe.data.synthesis.scene2d.patterns import Generator


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthDistribution:
    """Distribution of the depth of random scenes."""

    probability: float = 0.35  # of a scene with depth
    ground_probability: float = 0.4  # of a ground plane in those
    max_parallax: float = 2.5  # translation of the nearest layers, relative to the background
    max_speed: float = 34.0  # pixels per frame interval, of all layers: within the range of optical flow


_DEFAULT = DepthDistribution()


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraMotion:
    """World to frame over time: a translation that depends on depth, followed by `orientation`."""

    orientation: HomographyFunction
    background_shift: Callable[[float], tuple[float, float]]  # pixels, of the background
    speed: float  # pixels per frame interval, of the background

    def __call__(self, t: float, parallax: float = 1.0) -> Matrix:
        """World to frame, of a layer whose translation is `parallax` times that of the background."""
        x, y = self.background_shift(t)
        matrix: Matrix = self.orientation(t) @ translation(parallax * x, parallax * y)
        return matrix

    def ground_homography(self, t: float, *, horizon: float, gradient: float) -> Matrix:
        """World to frame, of a ground plane: parallax grows by `gradient` per pixel below `horizon`."""
        x, y = self.background_shift(t)
        sheared = np.array([[1.0, gradient * x, x], [0, 1 + gradient * y, y], [0, 0, 1]])
        matrix: Matrix = self.orientation(t) @ about((0.0, horizon), sheared)
        return matrix


def foreground_layers(
    rng: Generator,
    pictures: Sequence[SrgbImage],
    view: CameraMotion,
    *,
    side: int,
    distribution: DepthDistribution = _DEFAULT,
) -> list[Layer]:
    """Draw ground plane, poles and blobs in front of the background; in most scenes none.

    Args:
        rng: Random generator.
        pictures: Sources of textures, as for `random_scene`.
        view: Motion of the camera, the only one of these layers.
        side: Of the frame, in pixels.
        distribution: Of depth.
    """
    if rng.random() >= distribution.probability:
        return []
    max_parallax = distribution.max_parallax
    if view.speed:
        max_parallax = min(max_parallax, distribution.max_speed / view.speed)
    parallaxes = sorted(1 + (max_parallax - 1) * rng.uniform(0.05, 1, int(rng.integers(1, 5))) ** 2)
    layers = []
    if rng.random() < distribution.ground_probability:
        layers.append(_ground(rng, pictures, view, side=side, max_parallax=max_parallax))
    return layers + [_object(rng, pictures, view, side=side, parallax=float(each)) for each in parallaxes]


def _ground(
    rng: Generator, pictures: Sequence[SrgbImage], view: CameraMotion, *, side: int, max_parallax: float
) -> Layer:
    """A plane below a random horizon, with parallax up to `max_parallax` at the lower edge of the frame."""
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


def _object(
    rng: Generator, pictures: Sequence[SrgbImage], view: CameraMotion, *, side: int, parallax: float
) -> Layer:
    upright = rng.random() < 0.5
    mask = (
        bar(side * rng.uniform(0.15, 0.6), rng.uniform(2, 14)) if upright else blob(rng, rng.uniform(10, 60))
    )
    tilt = math.pi / 2 + rng.normal(0, 0.1)
    placement = translation(*rng.uniform(0, side, 2).tolist()) @ rotation(tilt)
    return cutout_layer(rng, pictures, mask, lambda t: view(t, parallax) @ placement, mover=False)
