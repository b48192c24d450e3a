"""A football match under a panning camera: players, a ball, a net, advertising boards, a crowd.

Lengths are in units: a frame is 360 units high. The x axis of the world is parallel to the pitch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from freezeframe.data.synthesis.scene2d.layered_scene import HomographyFunction, Layer, Matrix, Scene
from freezeframe.data.synthesis.scene2d.motion import (
    ScalarFunction,
    about,
    rotation,
    smooth_noise,
    translation,
    zoom,
)
from freezeframe.data.synthesis.scene2d.player import Kit
from freezeframe.data.synthesis.scene2d.vector_canvas import VectorCanvas, boost_highlights

from .figures import Player, figure, shadow
from .stadium import ground, pitch

HEIGHT = 360.0
MARGIN = 60.0  # units of world outside the nominal view, on each side
_PAN_SPEED, _SURGE, _SURGE_RATE = 11.0, 3.8, 0.022  # mean and amplitude, units, and cycles per frame interval

_HOME = Kit(
    number="7", name="ISO", shirt=(205, 32, 40), trim=(255, 244, 232), shorts=(245, 242, 238),
    skin=(214, 158, 120), hair=(52, 34, 26),
)  # fmt: skip
_AWAY = Kit(
    number="24", name="FPS", shirt=(36, 78, 190), trim=(250, 226, 70), shorts=(24, 40, 96),
    skin=(134, 88, 62), hair=(24, 20, 20),
)  # fmt: skip
_KEEPER = Kit(
    number="1", name="LUX", shirt=(238, 190, 30), trim=(30, 30, 30), shorts=(40, 40, 44),
    skin=(232, 184, 150), hair=(150, 96, 40),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PanningCamera:
    """A camera that pans along the pitch, with handheld shake in height, roll and zoom."""

    width: float  # units: of a frame
    scale: float  # frame pixels per unit
    pan: ScalarFunction
    rise: ScalarFunction
    roll: ScalarFunction
    zoom: ScalarFunction

    def view(self, t: float, *, parallax: float = 1.0) -> Matrix:
        """World units to frame pixels; `parallax` is relative to the crowd, above 1 for nearer layers."""
        centre = (self.width / 2, HEIGHT / 2)
        orientation = about(centre, rotation(self.roll(t)) @ zoom(1 + self.zoom(t)))
        world_to_view = orientation @ translation(-self.pan(t) * parallax, -self.rise(t) * parallax)
        # The origin of units is the corner of the frame, that of pixels the centre of the first pixel.
        return translation(-0.5, -0.5) @ zoom(self.scale) @ world_to_view


def sports_scene(width: int, height: int, *, seed: int, frames: int = 24) -> Scene:
    """Fast action under a panning camera, for times 0 to `frames`.

    Background and players move by up to 25 px per frame interval at a height of 360 px, else in proportion.
    """
    rng = np.random.default_rng(seed)
    camera = _camera(rng, width=width, height=height)
    world = (camera.pan(frames) + camera.width + 2 * MARGIN, HEIGHT + 2 * MARGIN)
    static = ground(rng, pitch, size=world, margin=MARGIN, scale=camera.scale)
    back = _background_layer(static, camera)
    goal = _goal(camera, x=0.62 * camera.pan(min(frames, 60)) + 260)
    layers = (back, goal, *_players(rng, camera), *_ball(rng, camera))
    return Scene(layers=layers, size=(height, width))


def _camera(rng: np.random.Generator, *, width: int, height: int) -> PanningCamera:
    surge = 2 * math.pi * _SURGE_RATE
    phase = rng.uniform(0, 0.6)

    def pan(t: float) -> float:
        return _PAN_SPEED * t + _SURGE / surge * (math.cos(phase) - math.cos(surge * t + phase))

    return PanningCamera(
        width=width / height * HEIGHT,
        scale=height / HEIGHT,
        pan=pan,
        rise=smooth_noise(rng, size=5.0, rate=0.05),
        roll=smooth_noise(rng, size=0.006, rate=0.04),
        zoom=smooth_noise(rng, size=0.012, rate=0.02),
    )


def _background_layer(ground_layer: Layer, camera: PanningCamera) -> Layer:
    """The static background under the motion of the camera."""
    placement = ground_layer.homography(0)
    return Layer(texture=ground_layer.texture, homography=lambda t: camera.view(t) @ placement, mirrored=True)


def _goal(camera: PanningCamera, *, x: float) -> Layer:
    width, height = 190.0, 92.0
    canvas = VectorCanvas(width + 12, height + 8, camera.scale)
    for k in range(1, 32):  # the two sets of threads of the net
        canvas.line((6 + 6 * k, 8), (6 + 6 * k + 0.03 * (96 - 6 * k), height), 0.9, (226, 230, 236))
    for k in range(1, 14):
        sag = 4 * math.sin(k)
        canvas.line((6, 6 + 6.4 * k), (width / 2 + 6, 6 + 6.4 * k + sag), 0.9, (226, 230, 236))
        canvas.line((width / 2 + 6, 6 + 6.4 * k + sag), (width + 6, 6 + 6.4 * k), 0.9, (226, 230, 236))
    white = (250, 250, 250)
    for start, end in (((6, 5), (6, 96)), ((width + 6, 5), (width + 6, 96)), ((6, 5), (width + 6, 5))):
        canvas.line(start, end, 5, white)
    placement = translation(x, 224 - height) @ canvas.pixel_to_unit()
    return Layer(texture=canvas.texture(), homography=lambda t: camera.view(t, parallax=1.03) @ placement)


def _players(rng: np.random.Generator, camera: PanningCamera) -> tuple[Layer, ...]:
    """A distant goalkeeper, an opponent slower than the camera, and a player tracked by it."""
    drift = smooth_noise(rng, size=26, rate=0.02)
    middle = camera.width / 2
    keeper = Player(kit=_KEEPER, track=lambda t: 640 + 5.0 * t, ground=236, size=0.62, stride_rate=0.028)
    away_player = Player(
        kit=_AWAY,
        track=lambda t: camera.pan(t) + middle + 170 - 4.2 * t,
        ground=288,
        size=0.95,
        stride_rate=0.05,
    )
    home_player = Player(
        kit=_HOME,
        track=lambda t: camera.pan(t) + middle - 40 + drift(t),
        ground=334,
        size=1.2,
        stride_rate=0.047,
    )
    runs = (keeper, away_player, home_player)
    return tuple(layer for run in runs for layer in figure(run, camera.view, scale=camera.scale))


def _ball(rng: np.random.Generator, camera: PanningCamera) -> tuple[Layer, Layer]:
    start = rng.uniform(0, 0.5)
    middle = camera.width / 2

    def track(t: float) -> float:
        return camera.pan(t) + middle + 40 + 0.33 * camera.width * math.sin(2 * math.pi * t / 95 + start)

    def position(t: float) -> Matrix:
        phase = (t / 27 + start) % 1
        bounce = 4 * phase * (1 - phase)
        return translation(track(t), 322 - 105 * bounce) @ rotation(0.16 * t)

    canvas = _ball_canvas(camera.scale)
    placement = translation(-12, -12) @ canvas.pixel_to_unit()
    texture = boost_highlights(canvas.texture(), above=0.93)
    ball = Layer(
        texture=texture, homography=_follow_camera(camera, lambda t: position(t) @ placement), mover=True
    )
    return shadow(camera.view, track, ground=332, radius=14, scale=camera.scale), ball


def _ball_canvas(scale: float) -> VectorCanvas:
    canvas = VectorCanvas(24, 24, scale)
    canvas.disc((12, 12), 9.5, (240, 240, 236))
    for k in range(5):
        angle = 2 * math.pi * k / 5
        x, y = 12 + 7.2 * math.cos(angle), 12 + 7.2 * math.sin(angle)
        canvas.disc((x, y), 2.4, (26, 26, 32))
        canvas.line((12, 12), (x, y), 0.9, (70, 70, 76))
    canvas.disc((12, 12), 3.1, (26, 26, 32))
    return canvas


def _follow_camera(camera: PanningCamera, motion: Callable[[float], Matrix]) -> HomographyFunction:
    return lambda t: camera.view(t) @ motion(t)
