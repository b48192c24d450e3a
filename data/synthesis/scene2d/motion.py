"""Ways through time, as functions that give a homography for each moment (unit: frame interval)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .layered_scene import HomographyFunction, Matrix

ScalarFunction = Callable[[float], float]  # time in frame intervals -> a length or an angle


def translation(x: float, y: float) -> Matrix:
    """Moves by (x, y) pixels."""
    return np.array([[1.0, 0, x], [0, 1, y], [0, 0, 1]])


def rotation(angle: float) -> Matrix:
    """Clockwise on the screen, for y points down. Radians, about the origin."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def zoom(factor: float) -> Matrix:
    """Enlarges about the origin."""
    return np.diag([factor, factor, 1.0])


def about(centre: tuple[float, float], matrix: Matrix) -> Matrix:
    """`matrix` with its origin moved to `centre`."""
    x, y = centre
    moved: Matrix = translation(x, y) @ matrix @ translation(-x, -y)
    return moved


def constant_velocity(dx: float, dy: float) -> HomographyFunction:
    """The same step in every frame interval, in pixels; at home at time 0."""
    return lambda t: translation(dx * t, dy * t)


def smooth_noise(rng: np.random.Generator, *, size: float, rate: float) -> ScalarFunction:
    """A wandering value of standard deviation `size`: sines of up to `rate` cycles per frame interval."""
    rates = rate * rng.uniform(0.15, 1, 5)
    phases = rng.uniform(0, 2 * math.pi, 5)
    amplitudes = rng.standard_normal(5)
    amplitudes *= size * math.sqrt(2) / np.linalg.norm(amplitudes)
    return lambda t: float(np.sum(amplitudes * np.sin(2 * math.pi * rates * t + phases)))
