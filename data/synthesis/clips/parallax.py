"""Depth in scenes by chance: still things nearer than the background, shifted further by a moving camera."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from freezeframe.data.synthesis.scene2d.cutouts import FINE, bar, blob, piece
from freezeframe.data.synthesis.scene2d.layered_scene import Layer, Matrix, Motion
from freezeframe.data.synthesis.scene2d.motion import about, shift, turn
from freezeframe.data.synthesis.scene2d.patterns import Chance, Codes

DEEP = 0.35  # share of scenes with depth
GROUND = 0.4  # share of those with ground to stand on
NEAREST = 2.5  # times as far as the background are the nearest things shifted
FASTEST = 34.0  # pixels per frame interval, of a camera and of the nearest things; flow follows that


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How a camera sees the world at any time: as `held`, after everything shifted by its `way`."""

    held: Motion
    way: Callable[[float], tuple[float, float]]  # pixels, of the background
    speed: float  # pixels per frame interval, of the background

    def __call__(self, t: float, near: float = 1.0) -> Matrix:
        """World to frame, of things that are shifted `near` times as far as the background."""
        x, y = self.way(t)
        moved: Matrix = self.held(t) @ shift(near * x, near * y)
        return moved

    def lying(self, t: float, *, horizon: float, steep: float) -> Matrix:
        """World to frame, of a plane: `steep` times further shifted with every pixel below `horizon`."""
        x, y = self.way(t)
        sheared = np.array([[1.0, steep * x, x], [0, 1 + steep * y, y], [0, 0, 1]])
        moved: Matrix = self.held(t) @ about((0.0, horizon), sheared)
        return moved


def nearer(rng: Chance, pictures: Sequence[Codes], view: View, *, side: int) -> list[Layer]:
    """Ground, poles and lumps in front of the background; in most scenes nothing.

    Args:
        rng: Decides everything.
        pictures: To cut from, as for `random_scene`.
        view: What moves them, and nothing else does.
        side: Of the frame, in pixels.
    """
    if rng.random() >= DEEP:
        return []
    reach = min(NEAREST, FASTEST / view.speed) if view.speed else NEAREST
    depths = sorted(1 + (reach - 1) * rng.uniform(0.05, 1, int(rng.integers(1, 5))) ** 2)
    ground = [_ground(rng, pictures, view, side=side, reach=reach)] if rng.random() < GROUND else []
    return ground + [_thing(rng, pictures, view, side=side, near=float(near)) for near in depths]


def _ground(rng: Chance, pictures: Sequence[Codes], view: View, *, side: int, reach: float) -> Layer:
    """From a horizon down; at the lower edge of the frame shifted up to `reach` times as far."""
    horizon = side * rng.uniform(0.2, 0.7)
    steep = (reach - 1) * rng.uniform(0.2, 1) / (side - horizon)
    cover = np.ones((FINE * side, 2 * FINE * side), np.float32)
    home = shift(side / 2, horizon + side / 2)
    return piece(
        rng, pictures, cover, lambda t: view.lying(t, horizon=horizon, steep=steep) @ home, mover=False
    )


def _thing(rng: Chance, pictures: Sequence[Codes], view: View, *, side: int, near: float) -> Layer:
    upright = rng.random() < 0.5
    mask = (
        bar(side * rng.uniform(0.15, 0.6), rng.uniform(2, 14)) if upright else blob(rng, rng.uniform(10, 60))
    )
    lean = math.pi / 2 + rng.normal(0, 0.1)
    home = shift(*rng.uniform(0, side, 2).tolist()) @ turn(lean)
    return piece(rng, pictures, mask, lambda t: view(t, near) @ home, mover=False)
