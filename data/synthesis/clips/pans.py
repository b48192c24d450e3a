"""Pictures that a camera moves across, to learn its shutter from: every speed, softness, noise and codec."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from freezeframe.data.color import SRGB, to_linear
from freezeframe.data.synthesis.degradations.camera_isp import Camera, record_clip
from freezeframe.data.synthesis.scene2d.cutouts import random_texture
from freezeframe.data.synthesis.scene2d.layered_scene import Layer, Matrix, Scene
from freezeframe.data.synthesis.scene2d.motion import about, rotation, smooth_noise, translation, zoom
from freezeframe.data.synthesis.scene2d.patterns import Generator, SrgbImage

SIZE = (224, 320)  # rows and columns of a frame
LENGTH = 5  # frames
SHORT_PROBABILITY = 0.25  # share of shutters so short that nothing blurs
MIN_SHUTTER, SHORT_SHUTTER = 0.01, 0.08  # frame intervals, from and to which those are
MIN_SPEED, MAX_SPEED = 2.0, 28.0  # pixels per frame interval
SLOW_PROBABILITY, SLOW_SPEED = 0.3, 7.0  # share of pans no faster than this: where blur is hardest to tell
_PICTURE_MARGIN = 1.3  # times the frame that a picture shows, before it is mirrored
_LENS_SIGMAS = ((0.35, 0.35), (0.5, 0.35), (0.7, 0.2), (1.0, 0.1))  # standard deviation in pixels, share


@dataclass(frozen=True, slots=True, kw_only=True)
class Pan:
    """What a camera recorded, and how long its shutter was open."""

    frames: tuple[SrgbImage, ...]  # [H, W, 3] sRGB codes
    shutter: float  # exposure time over frame interval
    speed: float  # pixels per frame interval
    crf: int | None  # constant rate factor of H.264


def make_pan(seed: int, pictures: Sequence[SrgbImage]) -> Pan:
    """The clip of this seed, cut from `pictures` ([h, w, 3] sRGB codes)."""
    rng = np.random.default_rng((seed, 77))
    shutter = float(
        rng.uniform(MIN_SHUTTER, SHORT_SHUTTER)
        if rng.random() < SHORT_PROBABILITY
        else rng.uniform(SHORT_SHUTTER, 1)
    )
    fastest = SLOW_SPEED if rng.random() < SLOW_PROBABILITY else MAX_SPEED
    speed = float(np.exp(rng.uniform(math.log(MIN_SPEED), math.log(fastest))))
    scene = _scene(rng, pictures, speed=speed)
    camera = _camera(rng)
    times = range(-(LENGTH // 2), LENGTH // 2 + 1)
    exposures = [scene.blurred(float(t), shutter=shutter) for t in times]
    frames = tuple(record_clip(exposures, camera, seed=seed))
    return Pan(frames=frames, shutter=shutter, speed=speed, crf=camera.h264)


def shutter_density(shutter: np.ndarray) -> np.ndarray:
    """How densely `make_pan` draws each shutter."""
    return np.where(
        shutter < SHORT_SHUTTER,
        SHORT_PROBABILITY / (SHORT_SHUTTER - MIN_SHUTTER),
        (1 - SHORT_PROBABILITY) / (1 - SHORT_SHUTTER),
    )


def _scene(rng: Generator, pictures: Sequence[SrgbImage], *, speed: float) -> Scene:
    height, width = SIZE
    fine = float(np.exp(rng.uniform(math.log(0.7), math.log(3))))  # texture pixels per pixel
    crop = random_texture(
        rng, pictures, size=(round(_PICTURE_MARGIN * fine * height), round(_PICTURE_MARGIN * fine * width))
    )
    linear = to_linear(torch.from_numpy(np.ascontiguousarray(crop)).float() / 255, SRGB).numpy()
    softness = fine * float(
        rng.choice([s for s, _ in _LENS_SIGMAS], p=[probability for _, probability in _LENS_SIGMAS])
    )
    linear = cv2.GaussianBlur(linear, (0, 0), softness, borderType=cv2.BORDER_REFLECT_101)
    texture = np.dstack([linear, np.ones(linear.shape[:2])]).astype(np.float32)
    placement = (
        translation(width / 2, height / 2)
        @ zoom(1 / fine)
        @ translation(-linear.shape[1] / 2, -linear.shape[0] / 2)
    )
    heading, shake = rng.uniform(0, 2 * math.pi), float(rng.choice([0, 0.1, 0.3])) * speed
    vx, vy = speed * math.cos(heading), speed * math.sin(heading)
    wander = [smooth_noise(rng, size=shake, rate=0.3) for _ in range(2)]
    spin, growth = rng.normal(0, 0.008, 2) * (rng.random(2) < 0.4)
    middle = (width / 2 + rng.normal(0, width / 4), height / 2 + rng.normal(0, height / 4))

    def homography(t: float) -> Matrix:
        orientation = about(middle, rotation(spin * t) @ zoom(math.exp(growth * t)))
        matrix: Matrix = orientation @ translation(vx * t + wander[0](t), vy * t + wander[1](t)) @ placement
        return matrix

    return Scene(layers=(Layer(texture=texture, homography=homography, mirrored=True),), size=SIZE)


def _camera(rng: Generator) -> Camera:
    noisy = rng.random() < 0.5
    return Camera(
        contrast=float(rng.uniform(0.75, 1.35)),
        shot=float(10 ** rng.uniform(-4.5, -2.8)) if noisy else 0.0,
        read=float(10 ** rng.uniform(-3.5, -2.3)) if noisy else 0.0,
        halo=float(rng.uniform(0.1, 0.9)) if rng.random() < 0.35 else 0.0,
        h264=int(rng.integers(14, 36)) if rng.random() < 0.75 else None,
    )
