"""Random pans with known shutter fraction, of all speeds, PSFs, noise levels and codecs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from freezeframe.data.color import SRGB, to_linear
from freezeframe.data.srgb import SrgbImage
from freezeframe.data.synthesis.degradations.camera_isp import Camera, record_clip
from freezeframe.data.synthesis.scene2d.cutouts import random_texture
from freezeframe.data.synthesis.scene2d.layered_scene import HomographyFunction, Layer, Matrix, Scene
from freezeframe.data.synthesis.scene2d.motion import about, rotation, smooth_noise, translation, zoom
from freezeframe.data.synthesis.scene2d.patterns import Generator


@dataclass(frozen=True, slots=True, kw_only=True)
class PanDistribution:
    """Distribution of random pans."""

    size: tuple[int, int] = (224, 320)  # rows and columns of a frame
    length: int = 5  # frames, odd
    short_probability: float = 0.25  # of a shutter fraction below `short_shutter`, without visible blur
    min_shutter: float = 0.01  # shutter fractions
    short_shutter: float = 0.08
    min_speed: float = 2.0  # pixels per frame interval
    max_speed: float = 28.0
    slow_probability: float = 0.3  # of a pan below `slow_speed`, where blur is hardest to measure
    slow_speed: float = 7.0
    texture_margin: float = 1.3  # size of the texture over that of the frame; beyond, it is reflected
    lens_sigmas: tuple[float, ...] = (0.35, 0.5, 0.7, 1.0)  # pixels: standard deviations of the lens PSF
    lens_probabilities: tuple[float, ...] = (0.35, 0.35, 0.2, 0.1)


_DEFAULT = PanDistribution()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pan:
    """A recorded pan, and its shutter fraction."""

    frames: tuple[SrgbImage, ...]  # [H, W, 3]
    shutter: float  # exposure time over frame interval
    speed: float  # pixels per frame interval
    crf: int | None  # constant rate factor of H.264


def make_pan(seed: int, pictures: Sequence[SrgbImage], *, distribution: PanDistribution = _DEFAULT) -> Pan:
    """Draw the pan of a seed, over one of `pictures`, [h, w, 3] uint8 sRGB each."""
    rng = np.random.default_rng((seed, 77))
    shutter = float(
        rng.uniform(distribution.min_shutter, distribution.short_shutter)
        if rng.random() < distribution.short_probability
        else rng.uniform(distribution.short_shutter, 1)
    )
    slow = rng.random() < distribution.slow_probability
    fastest = distribution.slow_speed if slow else distribution.max_speed
    speed = float(np.exp(rng.uniform(math.log(distribution.min_speed), math.log(fastest))))
    scene = _scene(rng, pictures, distribution, speed=speed)
    camera = _camera(rng)
    times = range(-(distribution.length // 2), distribution.length // 2 + 1)
    exposures = [scene.blurred(float(t), shutter=shutter) for t in times]
    frames = tuple(record_clip(exposures, camera, seed=seed))
    return Pan(frames=frames, shutter=shutter, speed=speed, crf=camera.h264)


def shutter_density(shutter: np.ndarray, *, distribution: PanDistribution = _DEFAULT) -> np.ndarray:
    """Probability density of the shutter fractions of `make_pan`."""
    return np.where(
        shutter < distribution.short_shutter,
        distribution.short_probability / (distribution.short_shutter - distribution.min_shutter),
        (1 - distribution.short_probability) / (1 - distribution.short_shutter),
    )


def _scene(
    rng: Generator, pictures: Sequence[SrgbImage], distribution: PanDistribution, *, speed: float
) -> Scene:
    height, width = distribution.size
    density = float(np.exp(rng.uniform(math.log(0.7), math.log(3))))  # texture pixels per frame pixel
    margin = distribution.texture_margin
    crop = random_texture(
        rng, pictures, size=(round(margin * density * height), round(margin * density * width))
    )
    linear = to_linear(torch.from_numpy(np.ascontiguousarray(crop)).float() / 255, SRGB).numpy()
    sigma = density * float(rng.choice(distribution.lens_sigmas, p=distribution.lens_probabilities))
    linear = cv2.GaussianBlur(linear, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    texture = np.dstack([linear, np.ones(linear.shape[:2])]).astype(np.float32)
    placement = (
        translation(width / 2, height / 2)
        @ zoom(1 / density)
        @ translation(-linear.shape[1] / 2, -linear.shape[0] / 2)
    )
    homography = _motion(rng, (height, width), placement, speed=speed)
    return Scene(
        layers=(Layer(texture=texture, homography=homography, mirrored=True),), size=distribution.size
    )


def _motion(rng: Generator, size: tuple[int, int], placement: Matrix, *, speed: float) -> HomographyFunction:
    """Draw a pan with shake, and in some clips roll and zoom."""
    height, width = size
    heading, shake = rng.uniform(0, 2 * math.pi), float(rng.choice([0, 0.1, 0.3])) * speed
    vx, vy = speed * math.cos(heading), speed * math.sin(heading)
    wander = [smooth_noise(rng, size=shake, rate=0.3) for _ in range(2)]
    spin, growth = rng.normal(0, 0.008, 2) * (rng.random(2) < 0.4)
    middle = (width / 2 + rng.normal(0, width / 4), height / 2 + rng.normal(0, height / 4))

    def homography(t: float) -> Matrix:
        orientation = about(middle, rotation(spin * t) @ zoom(math.exp(growth * t)))
        matrix: Matrix = orientation @ translation(vx * t + wander[0](t), vy * t + wander[1](t)) @ placement
        return matrix

    return homography


def _camera(rng: Generator) -> Camera:
    noisy = rng.random() < 0.5
    return Camera(
        contrast=float(rng.uniform(0.75, 1.35)),
        shot=float(10 ** rng.uniform(-4.5, -2.8)) if noisy else 0.0,
        read=float(10 ** rng.uniform(-3.5, -2.3)) if noisy else 0.0,
        halo=float(rng.uniform(0.1, 0.9)) if rng.random() < 0.35 else 0.0,
        h264=int(rng.integers(14, 36)) if rng.random() < 0.75 else None,
    )
