"""Homographies, and motion as homographies over time (unit: frame interval)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .layered_scene import HomographyFunction, Matrix

ScalarFunction = Callable[[float], float]  # time in frame intervals -> a length or an angle


def translation(x: float, y: float) -> Matrix:
    """Translation by (x, y) pixels."""
    return np.array([[1.0, 0, x], [0, 1, y], [0, 0, 1]])


def rotation(angle: float) -> Matrix:
    """Rotation about the origin, radians; clockwise on the screen, as y points down."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def zoom(factor: float) -> Matrix:
    """Uniform scaling about the origin."""
    return np.diag([factor, factor, 1.0])


def about(centre: tuple[float, float], matrix: Matrix) -> Matrix:
    """`matrix` about `centre` instead of the origin."""
    x, y = centre
    conjugate: Matrix = translation(x, y) @ matrix @ translation(-x, -y)
    return conjugate


def constant_velocity(dx: float, dy: float) -> HomographyFunction:
    """Translation by (dx, dy) pixels per frame interval; the identity at time 0."""
    return lambda t: translation(dx * t, dy * t)


def smooth_noise(rng: np.random.Generator, *, size: float, rate: float) -> ScalarFunction:
    """Band-limited noise of standard deviation `size`: sines of up to `rate` cycles per frame interval."""
    rates = rate * rng.uniform(0.15, 1, 5)
    phases = rng.uniform(0, 2 * math.pi, 5)
    amplitudes = rng.standard_normal(5)
    amplitudes *= size * math.sqrt(2) / np.linalg.norm(amplitudes)
    return lambda t: float(np.sum(amplitudes * np.sin(2 * math.pi * rates * t + phases)))
