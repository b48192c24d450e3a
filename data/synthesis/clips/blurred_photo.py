"""Random blurred photographs with their exact blur field.

The blur of a photograph is a path: where the point that a pixel shows at mid-exposure goes while the shutter
is open. The field stores the line of the same second moment along the path's main axis, which for a straight
and even motion is the motion itself. A line is the same read from either end: its sign means nothing.

Nothing here takes a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal, get_args

import cv2
import numpy as np
import torch
from torch import Tensor

from freezeframe.data.blur.blocks import BLOCK_SIZE
from freezeframe.data.srgb import SrgbImage
from freezeframe.data.synthesis.degradations.psf import convolve, disk_kernel
from freezeframe.data.synthesis.scene2d.cutouts import blob, cutout_layer, detail, premultiply, random_texture
from freezeframe.data.synthesis.scene2d.layered_scene import HomographyFunction, Layer, Matrix, Scene
from freezeframe.data.synthesis.scene2d.motion import (
    about,
    constant_velocity,
    rotation,
    smooth_noise,
    translation,
    zoom,
)
from freezeframe.data.synthesis.scene2d.patterns import Generator
from freezeframe.data.synthesis.scene2d.vector_canvas import boost_highlights

BlurKind = Literal["sharp", "even", "defocus", "rotation", "depth", "mover", "shake"]
KINDS: tuple[BlurKind, ...] = get_args(BlurKind)
EVEN_KINDS: tuple[BlurKind, ...] = ("sharp", "even", "defocus")
"""Kinds whose blur is the same all over the photograph."""

_EVEN: Mapping[BlurKind, float] = MappingProxyType({"sharp": 0.2, "even": 0.65, "defocus": 0.15})
_ALL: Mapping[BlurKind, float] = MappingProxyType({
    "sharp": 0.2, "even": 0.1, "defocus": 0.08, "rotation": 0.27, "depth": 0.1, "mover": 0.15, "shake": 0.1,
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class BlurDistribution:
    """Distribution of blurred photographs. Lengths in pixels."""

    kinds: Mapping[BlurKind, float] = field(default_factory=lambda: _ALL)
    length: tuple[float, float] = (1.5, 30.0)  # of the blur in the middle, log-uniform
    max_length: float = 36.0  # anywhere; scenes with more are drawn again
    radius: tuple[float, float] = (0.8, 5.0)  # of defocus
    density: tuple[float, float] = (1.0, 3.0)  # photograph pixels per pixel
    lens_sigmas: tuple[float, ...] = (0.28, 0.4, 0.55, 0.8)  # of the lens PSF
    crops: int = 3  # of which the one of most detail is taken; of sharp photographs any, bokeh included
    pattern_probability: float = 0.08  # of a drawn instead of a photographed texture
    highlight_probability: float = 0.25  # of light above white
    focal: tuple[float, float] = (0.9, 4.0)  # focal length over the frame's side
    roll: float = 0.8  # largest share of roll or zoom in the blur of a rotating camera
    shake: float = 0.5  # standard deviation of shake over the blur length
    defocus_probability: float = 0.06  # of defocus on top of motion
    mover_radius: tuple[float, float] = (0.08, 0.35)  # over the frame's side


EVEN_BLUR = BlurDistribution(kinds=_EVEN)
DEFAULT_BLUR = BlurDistribution()


@dataclass(frozen=True, slots=True, kw_only=True)
class BlurredPhoto:
    """A photograph without noise, and its blur for each block of four by four pixels."""

    linear: Tensor  # [3, H, W] linear RGB
    sharp: Tensor  # [3, H, W] linear RGB at mid-exposure
    vectors: Tensor  # [2, H / 4, W / 4] (x, y) pixels, up to their sign
    radius: Tensor  # [H / 4, W / 4] of the defocus disk, pixels
    scene: Scene  # exposed for one interval about time 0


def blurred_photo(
    rng: Generator,
    pictures: Sequence[SrgbImage],
    *,
    side: int,
    distribution: BlurDistribution = DEFAULT_BLUR,
) -> BlurredPhoto:
    """Draw a photograph of `side` x `side` pixels, a multiple of four."""
    names = list(distribution.kinds)
    kind: BlurKind = rng.choice(names, p=np.array([distribution.kinds[name] for name in names]))
    while True:
        scene = _scene(rng, pictures, kind, side=side, distribution=distribution)
        vectors = path_vectors(scene)
        if float(vectors.norm(dim=0).max()) <= distribution.max_length:
            break
    radius = _log_uniform(rng, distribution.radius)
    if kind != "defocus" and (kind == "sharp" or rng.random() >= distribution.defocus_probability):
        radius = 0.0
    exposure = scene.blurred(0.0, shutter=1.0)
    return BlurredPhoto(
        linear=convolve(exposure, disk_kernel(radius)) if radius else exposure,
        sharp=scene.sharp(0.0),
        # Not their mean: vectors of either sign would cancel, and a block at an outline shows one of two.
        vectors=vectors[:, BLOCK_SIZE // 2 :: BLOCK_SIZE, BLOCK_SIZE // 2 :: BLOCK_SIZE].contiguous(),
        radius=torch.full((side // BLOCK_SIZE,) * 2, radius),
        scene=scene,
    )


def path_vectors(scene: Scene, *, samples: int = 9) -> Tensor:
    """[2, H, W] the line of the path of each pixel's point during an exposure of one interval about time 0.

    Its direction is the main axis of the path, its length that of an even line of the same variance. Of its
    two signs it has the one with x >= 0.
    """
    times = (np.arange(samples) + 0.5) / samples - 0.5
    paths = torch.stack([scene.flow(0.0, float(t)) for t in times])
    paths = paths - paths.mean(0)
    xx, yy, xy = ((paths[:, a] * paths[:, b]).mean(0) for a, b in ((0, 0), (1, 1), (0, 1)))
    largest = (xx + yy) / 2 + torch.hypot((xx - yy) / 2, xy)
    # Midpoints of N equal parts of a line of length L have the variance L^2 / 12 * (1 - 1 / N^2).
    length = (12 * largest / (1 - samples**-2)).clamp_min(0).sqrt()
    angle = torch.atan2(2 * xy, xx - yy) / 2
    return length * torch.stack([angle.cos(), angle.sin()])


def _still(_time: float) -> Matrix:
    return np.eye(3)


def _scene(
    rng: Generator,
    pictures: Sequence[SrgbImage],
    kind: BlurKind,
    *,
    side: int,
    distribution: BlurDistribution,
) -> Scene:
    camera = _CAMERAS[kind](rng, side, distribution) if kind in _CAMERAS else _still
    crops = 1 if kind == "sharp" else distribution.crops
    layers = [_background(rng, pictures, camera, side=side, distribution=replace(distribution, crops=crops))]
    if kind == "depth":
        layers += _near_layers(rng, pictures, camera, side=side, distribution=distribution)
    if kind == "mover":
        layers += [
            _mover(rng, pictures, side=side, distribution=distribution)
            for _ in range(int(rng.integers(1, 3)))
        ]
    if rng.random() < distribution.highlight_probability:
        layers = [replace(layer, texture=boost_highlights(layer.texture)) for layer in layers]
    return Scene(layers=tuple(layers), size=(side, side))


Camera = Callable[[Generator, int, BlurDistribution], HomographyFunction]


def _even_camera(rng: Generator, side: int, distribution: BlurDistribution) -> HomographyFunction:
    return constant_velocity(*_velocity(rng, distribution.length))


def _shaking_camera(rng: Generator, side: int, distribution: BlurDistribution) -> HomographyFunction:
    """A translation with shake: a bent path of varying speed."""
    vx, vy = _velocity(rng, distribution.length)
    size = distribution.shake * math.hypot(vx, vy) * rng.uniform(0.2, 1)
    x, y = (smooth_noise(rng, size=size, rate=1.5) for _ in range(2))
    return lambda t: translation(vx * t + x(t), vy * t + y(t))


def _rotating_camera(rng: Generator, side: int, distribution: BlurDistribution) -> HomographyFunction:
    """Yaw and pitch about an optical centre beside the frame, with roll, zoom and a little shake."""
    d = distribution
    focal = side * _log_uniform(rng, d.focal)
    centre = rng.normal(side / 2, 0.7 * side, 2)
    intrinsics = np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1.0]])
    vx, vy = _velocity(rng, d.length)
    speed, reach = math.hypot(vx, vy), max(side / 2, float(np.hypot(*(centre - side / 2))))
    spin, growth = rng.uniform(-1, 1, 2) * d.roll * speed / reach
    bend = rng.normal(0, 0.1, 2) * speed / focal
    shake = [smooth_noise(rng, size=0.1 * speed / focal * rng.random(), rate=1.5) for _ in range(2)]

    def camera(t: float) -> Matrix:
        yaw = vx / focal * t + bend[0] * t * t + shake[0](t)
        pitch = -vy / focal * t + bend[1] * t * t + shake[1](t)
        turn, _ = cv2.Rodrigues(np.array([pitch, yaw, spin * t]))
        matrix: Matrix = intrinsics @ turn @ np.linalg.inv(intrinsics)
        return about((centre[0], centre[1]), zoom(math.exp(growth * t))) @ matrix

    return camera


_CAMERAS: dict[str, Camera] = {
    "even": _even_camera,
    "shake": _shaking_camera,
    "rotation": _rotating_camera,
    "depth": _even_camera,
}


def _background(
    rng: Generator,
    pictures: Sequence[SrgbImage],
    camera: HomographyFunction,
    *,
    side: int,
    distribution: BlurDistribution,
) -> Layer:
    density = _log_uniform(rng, distribution.density)
    draws = [
        random_texture(
            rng,
            pictures,
            size=(round(1.4 * density * side),) * 2,
            pattern_probability=distribution.pattern_probability,
        )
        for _ in range(distribution.crops)
    ]
    texture = max(draws, key=detail)
    height, width = texture.shape[:2]
    placement = translation(side / 2, side / 2) @ zoom(1 / density) @ translation(-width / 2, -height / 2)
    sigma = density * float(rng.choice(distribution.lens_sigmas))
    return Layer(
        texture=premultiply(texture, None, sigma=sigma),
        homography=lambda t: camera(t) @ placement,
        mirrored=True,
    )


def _near_layers(
    rng: Generator,
    pictures: Sequence[SrgbImage],
    camera: HomographyFunction,
    *,
    side: int,
    distribution: BlurDistribution,
) -> list[Layer]:
    """Still objects before the background, which a moving camera blurs more."""
    return [
        _cutout(
            rng, pictures, _nearer(camera, float(rng.uniform(1.3, 3))), side=side, distribution=distribution
        )
        for _ in range(int(rng.integers(1, 4)))
    ]


def _nearer(camera: HomographyFunction, factor: float) -> HomographyFunction:
    return lambda t: camera(factor * t)


def _mover(
    rng: Generator, pictures: Sequence[SrgbImage], *, side: int, distribution: BlurDistribution
) -> Layer:
    motion = constant_velocity(*_velocity(rng, distribution.length))
    return replace(_cutout(rng, pictures, motion, side=side, distribution=distribution), mover=True)


def _cutout(
    rng: Generator,
    pictures: Sequence[SrgbImage],
    motion: HomographyFunction,
    *,
    side: int,
    distribution: BlurDistribution,
) -> Layer:
    """A blob with the texture of a photograph, at a random place."""
    x, y = rng.uniform(0.1, 0.9, 2) * side
    angle = rng.uniform(0, 2 * math.pi)
    mask = blob(rng, side * float(rng.uniform(*distribution.mover_radius)))
    placement = translation(x, y) @ rotation(angle)
    return cutout_layer(rng, pictures, mask, lambda t: motion(t) @ placement, mover=False)


def _velocity(rng: Generator, lengths: tuple[float, float]) -> tuple[float, float]:
    length, heading = _log_uniform(rng, lengths), rng.uniform(0, 2 * math.pi)
    return length * math.cos(heading), length * math.sin(heading)


def _log_uniform(rng: Generator, limits: tuple[float, float]) -> float:
    low, high = limits
    return float(np.exp(rng.uniform(math.log(low), math.log(high))))
