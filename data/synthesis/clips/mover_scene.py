"""Random scenes of small fast movers before a sharp photograph: balls, rackets, persons, cut-outs.

The camera is still or pans slowly. Time 0 is the middle of the clip.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from freezeframe.data.srgb import SrgbImage
from freezeframe.data.synthesis.scene2d.cutouts import blob, cutout_layer, detail, premultiply, random_texture
from freezeframe.data.synthesis.scene2d.layered_scene import HomographyFunction, Layer, Scene
from freezeframe.data.synthesis.scene2d.motion import rotation, smooth_noise, translation, zoom
from freezeframe.data.synthesis.scene2d.movers import ball, person, racket
from freezeframe.data.synthesis.scene2d.patterns import Generator

from .parallax import CameraMotion
from .random_scene import SceneExposure


@dataclass(frozen=True, slots=True, kw_only=True)
class MoverDistribution:
    """Distribution of scenes of small fast movers. Sizes in frame pixels, speeds in pixels per interval."""

    shutter: tuple[float, float] = (0.3, 0.95)  # shutter fractions
    rolling_probability: float = 0.2  # of a rolling shutter
    still_probability: float = 0.6  # of a camera that does not move
    pan_speed: tuple[float, float] = (0.3, 4.0)  # of the others
    shake: float = 0.5  # largest standard deviation of their shake
    density: tuple[float, float] = (1.5, 3.0)  # photograph pixels per frame pixel
    lens_sigmas: tuple[float, ...] = (0.28, 0.4)  # standard deviations of the lens PSF
    background_crops: int = 4  # of which the one of most detail is taken
    movers: tuple[float, ...] = (0.5, 0.3, 0.2)  # probabilities of one, two, three
    speed: tuple[float, float] = (5.0, 32.0)  # log-uniform
    ball_diameter: tuple[float, float] = (8.0, 44.0)
    racket_length: tuple[float, float] = (40.0, 100.0)
    person_height: tuple[float, float] = (40.0, 180.0)
    person_speed: tuple[float, float] = (3.0, 22.0)
    stride_rate: tuple[float, float] = (0.02, 0.09)  # strides (left and right) per frame interval
    frozen_probability: float = 0.3  # of a person in one pose
    cutout_radius: tuple[float, float] = (6.0, 28.0)
    max_spin: float = 0.08  # radians per frame interval


_DEFAULT = MoverDistribution()
_KINDS, _KIND_PROBABILITIES = ("ball", "racket", "person", "cut-out"), (0.3, 0.15, 0.35, 0.2)


def mover_scene(
    rng: Generator, pictures: Sequence[SrgbImage], *, side: int, distribution: MoverDistribution = _DEFAULT
) -> SceneExposure:
    """Draw a scene of one to three movers in a frame of `side` x `side` pixels, see `random_scene`."""
    d = distribution
    shutter = float(rng.uniform(*d.shutter))
    camera = _camera(rng, d)
    layers = [_background(rng, pictures, camera, side=side, distribution=d)]
    for _ in range(1 + int(rng.choice(len(d.movers), p=d.movers))):
        layers += _mover(rng, pictures, camera, side=side, distribution=d)
    readout = float(rng.uniform(0.2, 0.8)) if rng.random() < d.rolling_probability else 0.0
    scene = Scene(layers=tuple(layers), size=(side, side))
    return SceneExposure(scene=scene, shutter=shutter, readout=min(readout, shutter))


def _camera(rng: Generator, distribution: MoverDistribution) -> CameraMotion:
    if rng.random() < distribution.still_probability:
        return CameraMotion(orientation=lambda t: np.eye(3), background_shift=lambda t: (0.0, 0.0), speed=0.0)
    speed, heading = _log_uniform(rng, distribution.pan_speed), rng.uniform(0, 2 * math.pi)
    vx, vy = speed * math.cos(heading), 0.5 * speed * math.sin(heading)
    size = rng.uniform(0, distribution.shake)
    shake_x, shake_y = (smooth_noise(rng, size=size, rate=0.15) for _ in range(2))
    return CameraMotion(
        orientation=lambda t: np.eye(3),
        background_shift=lambda t: (vx * t + shake_x(t), vy * t + shake_y(t)),
        speed=speed,
    )


def _background(
    rng: Generator,
    pictures: Sequence[SrgbImage],
    camera: CameraMotion,
    *,
    side: int,
    distribution: MoverDistribution,
) -> Layer:
    """The crop of most detail of a few photographs; a pattern without photographs."""
    density = _log_uniform(rng, distribution.density)
    draw = partial(
        random_texture, rng, pictures, size=(round(1.2 * density * side),) * 2, pattern_probability=0.0
    )
    texture = max((draw() for _ in range(distribution.background_crops)), key=detail)
    height, width = texture.shape[:2]
    placement = translation(side / 2, side / 2) @ zoom(1 / density) @ translation(-width / 2, -height / 2)
    sigma = density * float(rng.choice(distribution.lens_sigmas))
    premultiplied = premultiply(texture, None, sigma=sigma)
    return Layer(texture=premultiplied, homography=lambda t: camera(t) @ placement, mirrored=True)


def _mover(
    rng: Generator,
    pictures: Sequence[SrgbImage],
    camera: CameraMotion,
    *,
    side: int,
    distribution: MoverDistribution,
) -> Sequence[Layer]:
    d = distribution
    kind = rng.choice(_KINDS, p=_KIND_PROBABILITIES)
    if kind == "person":
        return _person(rng, camera, side=side, distribution=d)
    heading = rng.uniform(0, 2 * math.pi)
    path = _path(rng, camera, side=side, speed=_log_uniform(rng, d.speed), heading=heading)
    motion = _spun(rng, path, d.max_spin)
    if kind == "ball":
        return [ball(rng, motion, diameter=_log_uniform(rng, d.ball_diameter))]
    if kind == "racket":
        return [racket(rng, motion, length=float(rng.uniform(*d.racket_length)))]
    return [cutout_layer(rng, pictures, blob(rng, _log_uniform(rng, d.cutout_radius)), motion)]


def _person(
    rng: Generator, camera: CameraMotion, *, side: int, distribution: MoverDistribution
) -> Sequence[Layer]:
    """A runner, or a person frozen in one pose, who moves to the side that he faces."""
    d = distribution
    speed, facing = _log_uniform(rng, d.person_speed), int(rng.choice([-1, 1]))
    rate = 0.0 if rng.random() < d.frozen_probability else float(rng.uniform(*d.stride_rate))
    heading = rng.normal(0, 0.1) + (math.pi if facing < 0 else 0)
    motion = _path(rng, camera, side=side, speed=speed, heading=heading)
    height = float(rng.uniform(*d.person_height))
    return person(rng, motion, height=height, facing=facing, stride_rate=rate)


def _path(
    rng: Generator, camera: CameraMotion, *, side: int, speed: float, heading: float
) -> HomographyFunction:
    """A straight or parabolic path through the frame at time 0."""
    x, y = rng.uniform(0.15 * side, 0.85 * side, 2)
    vx, vy = speed * math.cos(heading), speed * math.sin(heading)
    gravity = float(rng.uniform(0, 0.06)) * speed  # pixels per interval^2
    return lambda t: camera(t) @ translation(x + vx * t, y + vy * t + gravity * t * t / 2)


def _spun(rng: Generator, path: HomographyFunction, most: float) -> HomographyFunction:
    """`path` of a body at a random angle that turns by up to `most` radians per frame interval."""
    start, rate = rng.uniform(0, 2 * math.pi), rng.uniform(-most, most)
    return lambda t: path(t) @ rotation(start + rate * t)


def _log_uniform(rng: Generator, limits: tuple[float, float]) -> float:
    low, high = limits
    return float(np.exp(rng.uniform(math.log(low), math.log(high))))
