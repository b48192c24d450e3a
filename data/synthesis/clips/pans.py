"""Pictures that a camera moves across, to learn its shutter from: every speed, softness, noise and codec."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from freezeframe.data.color import SRGB, to_light
from freezeframe.data.synthesis.degradations.camera_isp import Camera, recorded
from freezeframe.data.synthesis.scene2d.cutouts import cut
from freezeframe.data.synthesis.scene2d.layered_scene import Layer, Matrix, Scene
from freezeframe.data.synthesis.scene2d.motion import about, shift, smooth_noise, turn, zoom
from freezeframe.data.synthesis.scene2d.patterns import Chance, Codes

SIZE = (224, 320)  # rows and columns of a frame
LENGTH = 5  # frames
BRIEF = 0.25  # share of shutters so short that nothing blurs
BRIEFEST, SHORT = 0.01, 0.08  # frame intervals, from and to which those are
SLOWEST, FASTEST = 2.0, 28.0  # pixels per frame interval
SLOW, SLOWLY = 0.3, 7.0  # share of pans no faster than this: where blur is hardest to tell
_ROOM = 1.3  # times the frame that a picture shows, before it is mirrored
_LENSES = ((0.35, 0.35), (0.5, 0.35), (0.7, 0.2), (1.0, 0.1))  # standard deviation in pixels, share


@dataclass(frozen=True, slots=True, kw_only=True)
class Pan:
    """What a camera recorded, and how long its shutter was open."""

    frames: tuple[Codes, ...]  # [H, W, 3] sRGB codes
    shutter: float  # exposure time over frame interval
    speed: float  # pixels per frame interval
    rate: int | None  # constant rate factor of H.264


def pan(seed: int, pictures: Sequence[Codes]) -> Pan:
    """The clip of this seed, cut from `pictures` ([h, w, 3] sRGB codes)."""
    rng = np.random.default_rng((seed, 77))
    shutter = float(rng.uniform(BRIEFEST, SHORT) if rng.random() < BRIEF else rng.uniform(SHORT, 1))
    fastest = SLOWLY if rng.random() < SLOW else FASTEST
    speed = float(np.exp(rng.uniform(math.log(SLOWEST), math.log(fastest))))
    scene = _scene(rng, pictures, speed=speed)
    camera = _camera(rng)
    times = range(-(LENGTH // 2), LENGTH // 2 + 1)
    light = [scene.blurred(float(t), shutter=shutter) for t in times]
    frames = tuple(recorded(light, camera, seed=seed))
    return Pan(frames=frames, shutter=shutter, speed=speed, rate=camera.h264)


def density(shutter: np.ndarray) -> np.ndarray:
    """How densely `pan` draws each shutter."""
    return np.where(shutter < SHORT, BRIEF / (SHORT - BRIEFEST), (1 - BRIEF) / (1 - SHORT))


def _scene(rng: Chance, pictures: Sequence[Codes], *, speed: float) -> Scene:
    height, width = SIZE
    fine = float(np.exp(rng.uniform(math.log(0.7), math.log(3))))  # texture pixels per pixel
    sheet = cut(rng, pictures, size=(round(_ROOM * fine * height), round(_ROOM * fine * width)))
    light = to_light(torch.from_numpy(np.ascontiguousarray(sheet)).float() / 255, SRGB).numpy()
    softness = fine * float(rng.choice([s for s, _ in _LENSES], p=[share for _, share in _LENSES]))
    light = cv2.GaussianBlur(light, (0, 0), softness, borderType=cv2.BORDER_REFLECT_101)
    texture = np.dstack([light, np.ones(light.shape[:2])]).astype(np.float32)
    home = shift(width / 2, height / 2) @ zoom(1 / fine) @ shift(-light.shape[1] / 2, -light.shape[0] / 2)
    heading, shake = rng.uniform(0, 2 * math.pi), float(rng.choice([0, 0.1, 0.3])) * speed
    vx, vy = speed * math.cos(heading), speed * math.sin(heading)
    wander = [smooth_noise(rng, size=shake, rate=0.3) for _ in range(2)]
    spin, growth = rng.normal(0, 0.008, 2) * (rng.random(2) < 0.4)
    middle = (width / 2 + rng.normal(0, width / 4), height / 2 + rng.normal(0, height / 4))

    def place(t: float) -> Matrix:
        held = about(middle, turn(spin * t) @ zoom(math.exp(growth * t)))
        moved: Matrix = held @ shift(vx * t + wander[0](t), vy * t + wander[1](t)) @ home
        return moved

    return Scene(layers=(Layer(texture=texture, place=place, endless=True),), size=SIZE)


def _camera(rng: Chance) -> Camera:
    noisy = rng.random() < 0.5
    return Camera(
        contrast=float(rng.uniform(0.75, 1.35)),
        shot=float(10 ** rng.uniform(-4.5, -2.8)) if noisy else 0.0,
        read=float(10 ** rng.uniform(-3.5, -2.3)) if noisy else 0.0,
        halo=float(rng.uniform(0.1, 0.9)) if rng.random() < 0.35 else 0.0,
        h264=int(rng.integers(14, 36)) if rng.random() < 0.75 else None,
    )
