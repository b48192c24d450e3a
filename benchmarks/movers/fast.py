"""Shots of small fast movers before a sharp background."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np

from freezeframe.data.synthesis.scene2d.cutouts import TEXTURE_SCALE, premultiply
from freezeframe.data.synthesis.scene2d.layered_scene import HomographyFunction, Layer, Matrix, Scene
from freezeframe.data.synthesis.scene2d.motion import rotation, translation, zoom
from freezeframe.data.synthesis.scene2d.movers import ball, person, racket
from freezeframe.data.synthesis.scene2d.patterns import Generator

from .backgrounds import (
    CameraPath,
    detailed_crop,
    panning_camera,
    photograph,
    photograph_layer,
    shaking_camera,
)
from .shot import ClipFormat, Shot

SMALL, MEDIUM, LARGE = (270, 480), (316, 560), (360, 640)  # height, width of a frame
SECOND_MOVER_PROBABILITY = 0.3

Mover = Callable[[Generator, CameraPath, ClipFormat], tuple[Layer, ...]]


def compact_still(rng: Generator) -> Shot:
    """Balls, rackets and rigid persons before a still camera."""
    return _compact(rng, CameraPath())


def compact_pan(rng: Generator) -> Shot:
    return _compact(rng, panning_camera(rng))


def compact_shake(rng: Generator) -> Shot:
    return _compact(rng, shaking_camera(rng))


def occluded(rng: Generator) -> Shot:
    """A compact mover that passes behind a post in the middle of its path."""
    clip, camera = draw_format(rng), CameraPath()
    movers = _compact_mover(rng, camera, clip)
    return _shot(rng, camera, (*movers, _post(rng, movers[0], clip)), clip)


def runner_still(rng: Generator) -> Shot:
    """A runner whose limbs move faster than the body."""
    clip = ClipFormat(LARGE, draw_frames(rng))
    height = rng.uniform(100, 200)
    motion, facing = path(rng, clip, speed=(10, 16), reach=height * 0.5, steepness=0.05)
    layers = person(rng, motion, height=height, facing=facing, stride_rate=rng.uniform(0.045, 0.075))
    return _shot(rng, CameraPath(), layers, clip)


def ball_three_diameters(rng: Generator) -> Shot:
    """A ball of 12 px that moves 36 px per frame."""
    clip = ClipFormat(LARGE, 10)
    motion, _ = path(rng, clip, speed=(36, 36), reach=20, steepness=0.3)
    layer = ball(rng, _spun(rng, motion, 0.06), diameter=12)
    return _shot(rng, CameraPath(), (layer,), clip)


def draw_format(rng: Generator) -> ClipFormat:
    return ClipFormat((SMALL, MEDIUM, LARGE)[int(rng.integers(3))], draw_frames(rng))


def draw_frames(rng: Generator) -> int:
    return int(rng.integers(10, 13))


def path(
    rng: Generator,
    clip: ClipFormat,
    *,
    speed: tuple[float, float],
    reach: float,
    steepness: float,
) -> tuple[HomographyFunction, int]:
    """A straight or parabolic path, and its direction: 1 to the right, -1 to the left.

    Args:
        rng: Random generator.
        clip: The path stays in its frames as far as it is short enough.
        speed: Range of the speed in the middle of the clip, pixels per frame interval.
        reach: Pixels from the path to the frame's border.
        steepness: Largest angle to the horizontal, radians.
    """
    facing = int(rng.choice([-1, 1]))
    pace, angle = rng.uniform(*speed), rng.uniform(-steepness, steepness)
    pace = min(pace, max(speed[0], (clip.size[1] - 1.2 * reach) / (clip.frames - 1)))
    vx, vy = pace * math.cos(angle) * facing, pace * math.sin(angle)
    sag = rng.uniform(0, 0.5) * steepness if rng.random() < 0.6 else 0.0  # gravity, pixels per interval^2
    half = (clip.frames - 1) / 2
    x = _inside(rng, clip.size[1], reach + abs(vx) * half)
    y = _inside(rng, clip.size[0], reach + abs(vy) * half + sag * half**2 / 4)

    def motion(t: float) -> Matrix:
        s = t - half
        return translation(x + vx * s, y + vy * s + sag * (s**2 - half**2 / 2) / 2)

    return motion, facing


def _inside(rng: Generator, length: float, margin: float) -> float:
    """A position with `margin` to both ends; the middle where that is impossible."""
    return float(rng.uniform(margin, length - margin)) if 2 * margin < length else length / 2


def _compact(rng: Generator, camera: CameraPath) -> Shot:
    clip = draw_format(rng)
    layers = _compact_mover(rng, camera, clip)
    if rng.random() < SECOND_MOVER_PROBABILITY:
        layers = (*layers, *_compact_mover(rng, camera, clip))
    return _shot(rng, camera, layers, clip)


def _compact_mover(rng: Generator, camera: CameraPath, clip: ClipFormat) -> tuple[Layer, ...]:
    draw: tuple[Mover, ...] = (_flying_ball, _moved_racket, _rigid_person)
    return draw[int(rng.choice(3, p=[0.4, 0.25, 0.35]))](rng, camera, clip)


def _flying_ball(rng: Generator, camera: CameraPath, clip: ClipFormat) -> tuple[Layer, ...]:
    diameter = rng.uniform(16, 40)
    motion, _ = path(rng, clip, speed=(14, 28), reach=diameter, steepness=0.6)
    return (ball(rng, camera.shaken(_spun(rng, motion, 0.06)), diameter=diameter),)


def _moved_racket(rng: Generator, camera: CameraPath, clip: ClipFormat) -> tuple[Layer, ...]:
    length = rng.uniform(60, 90)
    motion, _ = path(rng, clip, speed=(14, 26), reach=length * 0.5, steepness=0.3)
    return (racket(rng, camera.shaken(_spun(rng, motion, 0.05)), length=length),)


def _rigid_person(rng: Generator, camera: CameraPath, clip: ClipFormat) -> tuple[Layer, ...]:
    height = rng.uniform(50, 120)
    motion, facing = path(rng, clip, speed=(14, 24), reach=height * 0.5, steepness=0.12)
    return person(rng, camera.shaken(motion), height=height, facing=facing)


def _spun(rng: Generator, motion: HomographyFunction, most: float) -> HomographyFunction:
    """`motion` of a body at a random angle that turns by up to `most` radians per frame interval."""
    start, rate = rng.uniform(0, 2 * math.pi), rng.uniform(-most, most)
    return lambda t: motion(t) @ rotation(start + rate * t)


def _post(rng: Generator, mover: Layer, clip: ClipFormat) -> Layer:
    """A static post with the texture of a photograph, where the mover is in the middle third of the clip."""
    width, height = int(rng.uniform(14, 30)), clip.size[0] + 8
    x = float(mover.corners(clip.frames * rng.uniform(0.35, 0.65)).mean(0)[0])
    picture, wide = photograph(rng), width * TEXTURE_SCALE
    rows = min(picture.shape[0], height * TEXTURE_SCALE)
    crop = detailed_crop(rng, picture, (rows, wide))
    crop = np.asarray(cv2.resize(crop, (wide, height * TEXTURE_SCALE)), np.uint8)
    across = np.linspace(-1, 1, wide)
    shaded = np.asarray(crop * (1 - 0.6 * across**2)[:, None], np.uint8)  # a cylinder
    cover = np.ones(shaded.shape[:2], np.float32)
    cover[:, :3] = cover[:, -3:] = 0
    at = translation(x - width / 2, -4) @ zoom(1 / TEXTURE_SCALE)
    return Layer(texture=premultiply(shaded, cover), homography=lambda t: at)


def _shot(rng: Generator, camera: CameraPath, layers: tuple[Layer, ...], clip: ClipFormat) -> Shot:
    background = photograph_layer(rng, camera, clip)
    scene = Scene(layers=(background, *layers), size=clip.size)
    return Shot(scene=scene, frames=clip.frames, shutter=float(rng.uniform(0.3, 0.9)))
