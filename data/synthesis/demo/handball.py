"""A handball court under a still camera: one player runs after a bouncing ball, all else is at rest.

Lengths are in units: a frame is 360 units high.
"""

from __future__ import annotations

import math

import numpy as np

from freezeframe.data.synthesis.scene2d.layered_scene import Layer, Matrix, Scene
from freezeframe.data.synthesis.scene2d.motion import rotation, translation, zoom
from freezeframe.data.synthesis.scene2d.player import Kit
from freezeframe.data.synthesis.scene2d.vector_canvas import VectorCanvas

from .figures import Player, figure, shadow
from .stadium import ground

HEIGHT = 360.0
_START, _SPEED = 110.0, 15.0  # of the player: x at time 0, units per frame interval
_BALL_RADIUS = 6.2  # units
_BALL_SPEED, _FALL, _RISE = 22.0, 13.5, 10.0  # horizontal, and vertical before and after the bounce
_GRAVITY = 0.8  # units per squared frame interval
_BOUNCE = (390.0, 318.0)  # x, and y of the floor
_BOUNCE_TIME = 6.5  # between two exposures of a shutter fraction below 1
_SPIN = 0.25  # radians per frame interval

_KIT = Kit(
    number="9", name="RAY", shirt=(24, 66, 150), trim=(250, 236, 120), shorts=(28, 32, 48),
    skin=(206, 150, 112), hair=(60, 38, 26),
)  # fmt: skip


def handball_scene(width: int, height: int, *, seed: int) -> Scene:
    """One player and a ball before a static background, for times 0 to 15.

    At a height of 360 px the player moves by 15 px per frame interval, the ball by 22 to 26 px.
    """
    scale = height / HEIGHT
    # The origin of units is the corner of the frame, that of pixels the centre of the first pixel.
    view = translation(-0.5, -0.5) @ zoom(scale)
    size = (width / scale, HEIGHT)
    court = ground(np.random.default_rng(seed), _court, size=size, margin=0, scale=scale)
    placement = view @ court.homography(0)
    static = Layer(texture=court.texture, homography=lambda t: placement, mirrored=True)
    run = Player(kit=_KIT, track=lambda t: _START + _SPEED * t, ground=306, size=0.95, stride_rate=0.047)
    layers = (static, *figure(run, lambda t: view, scale=scale), *_ball(view, scale=scale))
    return Scene(layers=layers, size=(height, width))


def ball_position(t: float) -> tuple[float, float]:
    """Centre of the ball in units: two parabolas that meet on the floor."""
    after = t - _BOUNCE_TIME
    vertical = _FALL if after < 0 else -_RISE
    x, floor = _BOUNCE
    return x + _BALL_SPEED * after, floor - _BALL_RADIUS + vertical * after + _GRAVITY / 2 * after**2


def _ball(view: Matrix, *, scale: float) -> tuple[Layer, Layer]:
    canvas = _ball_canvas(scale)
    placement = translation(-10, -10) @ canvas.pixel_to_unit()

    def homography(t: float) -> Matrix:
        matrix: Matrix = view @ translation(*ball_position(t)) @ rotation(_SPIN * t) @ placement
        return matrix

    ball = Layer(texture=canvas.texture(), homography=homography, mover=True)
    return shadow(
        lambda t: view, lambda t: ball_position(t)[0], ground=_BOUNCE[1], radius=9, scale=scale
    ), ball


def _ball_canvas(scale: float) -> VectorCanvas:
    """A white ball with panels of two colours."""
    canvas = VectorCanvas(20, 20, scale)
    canvas.disc((10, 10), _BALL_RADIUS, (40, 44, 60))
    canvas.disc((10, 10), _BALL_RADIUS - 0.5, (244, 242, 236))
    for k, colour in enumerate(((200, 34, 44), (30, 90, 190)) * 2):
        angle = math.pi / 2 * k
        canvas.disc((10 + 3.6 * math.cos(angle), 10 + 3.6 * math.sin(angle)), 1.6, colour)
    return canvas


def _court(canvas: VectorCanvas, top: float) -> None:
    """Draw a wooden floor below `top`, with the lines of a handball court."""
    _planks(canvas, top)
    depth = canvas.height - top
    chalk = (246, 244, 236)
    canvas.box(0, top + 12, (canvas.width, 2.6), chalk)
    canvas.polygon(_stripe(canvas.width * 0.38, top + 14, depth, width=4.0), chalk)
    for k in range(6):  # the dashed free-throw line
        left = canvas.width * 0.62 + 26 * k
        canvas.line((left, top + 60 + 3 * k), (left + 14, top + 61.6 + 3 * k), 2.6, (60, 120, 190))
    canvas.ellipse((canvas.width * 0.8, top + 1.16 * depth), (150, 44), (52, 112, 168))
    canvas.ellipse((canvas.width * 0.8, top + 1.16 * depth + 3), (144, 42), (70, 130, 180))


def _planks(canvas: VectorCanvas, top: float) -> None:
    """Planks of random shades, with seams and grain, that become wider towards the camera."""
    rng = np.random.default_rng(int(canvas.width))
    y, thickness = top, 4.5
    while y < canvas.height:
        x = -rng.uniform(0, 120)
        while x < canvas.width:
            length = rng.uniform(70, 150)
            shade = rng.uniform(0.86, 1.08)
            wood = tuple(round(part * shade) for part in (206, 156, 100))
            canvas.box(x, y, (length, thickness), wood)
            for _ in range(4):  # veins
                vein = x + rng.uniform(2, length - 22), y + rng.uniform(1, thickness - 1)
                dark = tuple(round(part * 0.88) for part in wood)
                canvas.line(vein, (vein[0] + rng.uniform(8, 20), vein[1]), 0.7, dark)
            canvas.box(x, y, (0.7, thickness), (120, 82, 48))
            x += length
        canvas.box(0, y, (canvas.width, 0.8), (136, 96, 58))
        y, thickness = y + thickness, thickness * 1.09


def _stripe(x: float, top: float, depth: float, *, width: float) -> list[tuple[float, float]]:
    """Corners of a line on the floor that runs towards the camera."""
    slant = 0.55 * depth
    return [(x, top), (x + width * 0.6, top), (x + width - slant, top + depth), (x - slant, top + depth)]
