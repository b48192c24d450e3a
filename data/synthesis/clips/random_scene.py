"""Random scenes for training: a background, a handheld or panning camera, parallax and movers.

A scene is a deterministic function of the state of a random generator. Time 0 is the middle of the clip.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from freezeframe.data.srgb import SrgbImage
from freezeframe.data.synthesis.scene2d.cutouts import (
    bar,
    blob,
    cutout_layer,
    disc,
    premultiply,
    random_texture,
)
from freezeframe.data.synthesis.scene2d.layered_scene import HomographyFunction, Layer, Matrix, Scene
from freezeframe.data.synthesis.scene2d.motion import about, rotation, smooth_noise, translation, zoom
from freezeframe.data.synthesis.scene2d.patterns import Generator, pattern
from freezeframe.data.synthesis.scene2d.vector_canvas import boost_highlights

from .parallax import CameraMotion, DepthDistribution, foreground_layers


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneDistribution:
    """Distribution of random scenes."""

    blur: tuple[float, float] = (1.5, 24.0)  # pixels: range of the blur by camera motion
    tremor: tuple[float, ...] = (0.0, 0.03, 0.08)  # standard deviation of fast shake, relative to the speed
    max_tremor_speed: float = 10.0  # pixels per frame interval, at which fast shake saturates
    density: tuple[float, float] = (1.8, 5.0)  # range of photograph pixels per background pixel
    lens_sigmas: tuple[float, ...] = (
        0.28,
        0.4,
        0.55,
        0.8,
    )  # frame pixels: of the lens PSF
    lens_probabilities: tuple[float, ...] = (0.5, 0.25, 0.15, 0.1)
    tripod_probability: float = 0.12  # of a still camera
    highlight_probability: float = 0.3  # of light above white
    caption_probability: float = 0.08  # of a static caption
    depth: DepthDistribution = field(default_factory=DepthDistribution)


_DEFAULT = SceneDistribution()


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneExposure:
    """A scene and its exposure."""

    scene: Scene
    shutter: float  # exposure time over frame interval
    readout: float  # frame intervals between the exposures of the first and the last row


def random_scene(
    rng: Generator, pictures: Sequence[SrgbImage], *, side: int, distribution: SceneDistribution = _DEFAULT
) -> SceneExposure:
    """Draw a scene with a frame of `side` x `side` pixels.

    Args:
        rng: Random generator.
        pictures: Sources of textures. [h, w, 3] uint8 sRGB, at least 64x64 pixels.
        side: Of the frame, in pixels.
        distribution: Of the scenes.
    """
    shutter = float(rng.uniform(0.45, 1) if rng.random() < 0.75 else rng.uniform(0.1, 0.45))
    camera = _camera(rng, distribution, shutter=shutter, side=side)
    highlights = bool(rng.random() < distribution.highlight_probability)
    layers = [_background(rng, pictures, camera, side=side, distribution=distribution)]
    depth_rng = rng.spawn(1)[0]
    layers += foreground_layers(depth_rng, pictures, camera, side=side, distribution=distribution.depth)
    for _ in range(int(rng.choice(4, p=[0.45, 0.3, 0.15, 0.1]))):
        layers += _mover(rng, pictures, camera, side=side)
    if rng.random() < distribution.caption_probability:
        layers.append(_caption(rng, side))
    if highlights:
        layers = [_with_highlights(layer) for layer in layers]
    readout = float(rng.uniform(0.2, 0.8)) if rng.random() < 0.2 else 0.0
    return SceneExposure(
        scene=Scene(layers=tuple(layers), size=(side, side)), shutter=shutter, readout=min(readout, shutter)
    )


def _camera(rng: Generator, distribution: SceneDistribution, *, shutter: float, side: int) -> CameraMotion:
    """Draw pan, shake, roll and zoom. Log-uniform in blur length, the range of which training must cover."""
    if rng.random() < distribution.tripod_probability:
        return CameraMotion(orientation=lambda t: np.eye(3), background_shift=lambda t: (0.0, 0.0), speed=0.0)
    shortest, longest = (math.log(length) for length in distribution.blur)
    speed = min(distribution.depth.max_speed, math.exp(rng.uniform(shortest, longest)) / shutter)
    heading = rng.uniform(0, 2 * math.pi)
    vx, vy = speed * math.cos(heading), speed * math.sin(heading) * rng.uniform(0.2, 1)
    shake = rng.choice([0.0, 0.08, 0.25]) * speed
    wander = [smooth_noise(rng, size=shake, rate=0.35) for _ in range(2)]
    tremor_rng = rng.spawn(1)[0]  # a generator of its own, so that all later draws are as before it was added
    amplitude = tremor_rng.choice(distribution.tremor) * min(speed, distribution.max_tremor_speed)
    tremor = [smooth_noise(tremor_rng, size=amplitude, rate=1.2) for _ in range(2)]
    spin, growth = rng.normal(0, 0.012, 2) * (rng.random(2) < 0.5)
    middle = (side / 2 + rng.normal(0, side / 4), side / 2 + rng.normal(0, side / 4))
    return CameraMotion(
        orientation=lambda t: about(middle, rotation(spin * t) @ zoom(math.exp(growth * t))),
        background_shift=lambda t: (
            vx * t + wander[0](t) + tremor[0](t),
            vy * t + wander[1](t) + tremor[1](t),
        ),
        speed=speed,
    )


def _background(
    rng: Generator,
    pictures: Sequence[SrgbImage],
    camera: CameraMotion,
    *,
    side: int,
    distribution: SceneDistribution,
) -> Layer:
    sparsest, densest = (math.log(density) for density in distribution.density)
    density = float(np.exp(rng.uniform(sparsest, densest)))
    texture = random_texture(rng, pictures, size=(round(density * side * 1.4),) * 2)
    lens_rng = rng.spawn(1)[0]
    lens_sigma = float(lens_rng.choice(distribution.lens_sigmas, p=distribution.lens_probabilities))
    height, width = texture.shape[:2]
    placement = translation(side / 2, side / 2) @ zoom(1 / density) @ translation(-width / 2, -height / 2)
    premultiplied = premultiply(texture, None, sigma=lens_sigma * density)
    return Layer(texture=premultiplied, homography=lambda t: camera(t) @ placement, mirrored=True)


def _mover(rng: Generator, pictures: Sequence[SrgbImage], camera: CameraMotion, *, side: int) -> list[Layer]:
    """Draw a ball, a blob or a figure with limbs, independent or tracked by the camera."""
    kind = rng.choice(["ball", "blob", "figure"], p=[0.25, 0.4, 0.35])
    reach = {"ball": rng.uniform(3, 16), "blob": rng.uniform(14, 70), "figure": rng.uniform(25, 80)}[kind]
    speed = rng.uniform(0, 1) * {"ball": 40, "blob": 22, "figure": 12}[kind]
    heading, spin = rng.uniform(0, 2 * math.pi), rng.normal(0, 0.06)
    vx, vy = speed * math.cos(heading), speed * math.sin(heading)
    x, y = rng.uniform(0.1 * side, 0.9 * side, 2)
    wander = [smooth_noise(rng, size=0.15 * speed, rate=0.35) for _ in range(2)]
    tracked = bool(rng.random() < 0.4)

    def body(t: float) -> Matrix:
        own_motion: Matrix = translation(x + vx * t + wander[0](t), y + vy * t + wander[1](t)) @ rotation(
            spin * t
        )
        return own_motion if tracked else camera(t) @ own_motion

    if kind == "figure":
        return [_limb(rng, pictures, body, reach=reach) for _ in range(int(rng.integers(3, 6)))]
    mask = disc(reach) if kind == "ball" else blob(rng, reach)
    return [cutout_layer(rng, pictures, mask, body)]


def _limb(rng: Generator, pictures: Sequence[SrgbImage], body: HomographyFunction, *, reach: float) -> Layer:
    """A rounded bar that swings about one of its ends."""
    long, thick = reach * rng.uniform(0.5, 1), reach * rng.uniform(0.15, 0.35)
    rest, swing = rng.uniform(0, 2 * math.pi), rng.uniform(0, 0.5)
    rate, phase = rng.uniform(0.05, 0.2), rng.uniform(0, 2 * math.pi)
    joint = rng.normal(0, reach / 5, 2).tolist()

    def homography(t: float) -> Matrix:
        angle = rest + swing * math.sin(2 * math.pi * rate * t + phase)
        matrix: Matrix = body(t) @ translation(*joint) @ rotation(angle) @ translation(long / 2, 0)
        return matrix

    return cutout_layer(rng, pictures, bar(long, thick), homography)


def _caption(rng: Generator, side: int) -> Layer:
    width, height = int(rng.integers(side // 4, side)), int(rng.integers(14, 40))
    pattern_image = pattern(rng, side=2 * width)
    texture = np.asarray(
        cv2.resize(pattern_image, (2 * width, 2 * height), interpolation=cv2.INTER_AREA), np.uint8
    )
    placement = translation(*rng.uniform(0, side - height, 2).tolist()) @ zoom(0.5)
    return Layer(
        texture=premultiply(texture, np.ones(texture.shape[:2], np.float32)), homography=lambda t: placement
    )


def _with_highlights(layer: Layer) -> Layer:
    return Layer(
        texture=boost_highlights(layer.texture),
        homography=layer.homography,
        mover=layer.mover,
        mirrored=layer.mirrored,
    )
