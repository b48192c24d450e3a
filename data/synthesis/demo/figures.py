"""Players and shadows in a world, whose units a view maps to frame pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from freezeframe.data.synthesis.scene2d.layered_scene import HomographyFunction, Layer, Matrix
from freezeframe.data.synthesis.scene2d.motion import ScalarFunction, translation, zoom
from freezeframe.data.synthesis.scene2d.player import HIP_TO_SOLE, Kit, runner
from freezeframe.data.synthesis.scene2d.vector_canvas import VectorCanvas


@dataclass(frozen=True, slots=True, kw_only=True)
class Player:
    """A player and their run."""

    kit: Kit
    track: ScalarFunction  # x in world units over time
    ground: float  # y of the soles in world units
    size: float  # world units per unit of the player
    stride_rate: float  # strides (left and right) per frame interval


def figure(player: Player, view: HomographyFunction, *, scale: float) -> tuple[Layer, ...]:
    """Layers of a runner and the shadow.

    Args:
        player: Who runs, and where.
        view: World units to frame pixels.
        scale: Frame pixels per world unit.
    """
    track, ground, size, stride_rate = player.track, player.ground, player.size, player.stride_rate
    phase = 2 * math.pi * stride_rate * float(player.kit.number)

    def hips(t: float) -> Matrix:
        bob = 3.0 * math.cos(2 * (2 * math.pi * stride_rate * t + phase))
        position = translation(track(t), ground - size * (HIP_TO_SOLE - 6 + bob))
        matrix: Matrix = view(t) @ position @ zoom(size)
        return matrix

    return (
        shadow(view, track, ground=ground, radius=36 * size, scale=scale),
        *runner(player.kit, hips, scale=scale * size, stride_rate=stride_rate, phase=phase),
    )


def shadow(
    view: HomographyFunction, track: ScalarFunction, *, ground: float, radius: float, scale: float
) -> Layer:
    """A soft shadow at height `ground` of the world, `radius` units long to either side of `track`."""
    canvas = VectorCanvas(4 * radius, radius, scale)
    canvas.ellipse((2 * radius, radius / 2), (radius, radius / 6), (6, 16, 6, 130))
    soft = np.asarray(cv2.GaussianBlur(canvas.texture(), (0, 0), radius * scale / 8), np.float32)
    placement = translation(-2 * radius, ground - radius / 2) @ canvas.pixel_to_unit()

    def homography(t: float) -> Matrix:
        matrix: Matrix = view(t) @ (translation(track(t), 0) @ placement)
        return matrix

    return Layer(texture=soft, homography=homography, mover=True)
