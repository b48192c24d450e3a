"""Shots of which nothing must be changed: sharp, or in motion that blurs less than is visible."""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from torch import Tensor

from freezeframe.data.synthesis.scene2d.cutouts import TEXTURE_SCALE, blob, premultiply
from freezeframe.data.synthesis.scene2d.layered_scene import Array, HomographyFunction, Layer, Matrix, Scene
from freezeframe.data.synthesis.scene2d.motion import (
    constant_velocity,
    rotation,
    smooth_noise,
    translation,
    zoom,
)
from freezeframe.data.synthesis.scene2d.movers import person
from freezeframe.data.synthesis.scene2d.patterns import Generator
from freezeframe.data.synthesis.scene2d.vector_canvas import VectorCanvas

from .backgrounds import FOLIAGE, WATER, CameraPath, detailed_crop, photograph, photograph_layer
from .fast import LARGE, MEDIUM, SMALL, draw_format, draw_frames, path
from .shot import ClipFormat, Shot

_WORDS = "BREAKING: MATCH POSTPONED - 21:45 LATE RESULTS 3:1 - WEATHER RAIN 14C - MARKETS +0.8% - "


def sharp_still(rng: Generator) -> Shot:
    return _shot(rng, (), size=draw_format(rng).size, whole_frame=True)


def crowd(rng: Generator) -> Shot:
    """Rows of small spectators that fidget in place."""
    layers: list[Layer] = []
    height = rng.uniform(32, 44)
    for y in np.arange(SMALL[0] * 0.3, SMALL[0] + height, height * 0.7):
        for x in np.arange(rng.uniform(0, height), SMALL[1], height * 0.62):
            layers += _spectator(rng, (float(x), float(y)), height)
    return _shot(rng, tuple(layers), size=SMALL)


def trees(rng: Generator) -> Shot:
    """Patches of foliage that sway a few pixels."""
    layers = tuple(_branch(rng, SMALL) for _ in range(int(rng.integers(12, 19))))
    return _shot(rng, layers, size=SMALL, names=FOLIAGE[1:])


def water(rng: Generator) -> Shot:
    """Waves of low contrast that run over a picture of water in two directions."""
    layers = tuple(_waves(rng, SMALL, shade) for shade in (0.0, 1.0))
    return _shot(rng, layers, size=SMALL, names=WATER)


def scrolling_text(rng: Generator) -> Shot:
    """A news ticker, or credits, that moves between the exposures and rests during each."""
    layers = _ticker(rng, LARGE) if rng.random() < 0.5 else _credits(rng, LARGE)
    return _shot(rng, layers, size=LARGE)


def flashing(rng: Generator) -> Shot:
    """Lights that flash and daylight that flickers."""
    clip = draw_format(rng)
    gains = np.clip(1 + rng.normal(0, 0.12, clip.frames), 0.6, 1.3)
    lamps = torch.stack([_glow(rng, clip.size) for _ in range(4)])
    on = rng.random((clip.frames, 4)) < 0.4

    def light(frame: int, linear: Tensor) -> Tensor:
        lit = lamps[torch.from_numpy(on[frame])].sum(0)
        return (linear * float(gains[frame]) + lit).clamp(0, 1)

    background = photograph_layer(rng, CameraPath(), clip)
    scene = Scene(layers=(background,), size=clip.size)
    return Shot(scene=scene, frames=clip.frames, shutter=_shutter(rng), light=light, whole_frame=True)


def slow_walker(rng: Generator) -> Shot:
    """A person who walks 3 px per frame."""
    height = rng.uniform(70, 130)
    motion, facing = path(rng, ClipFormat(MEDIUM, 12), speed=(3, 3), reach=height * 0.5, steepness=0.05)
    layers = person(rng, motion, height=height, facing=facing, stride_rate=0.012)
    return _shot(rng, layers, size=MEDIUM)


def _shot(
    rng: Generator,
    layers: tuple[Layer, ...],
    *,
    size: tuple[int, int],
    names: tuple[str, ...] = (),
    whole_frame: bool = False,
) -> Shot:
    clip = ClipFormat(size, draw_frames(rng))
    background = photograph_layer(rng, CameraPath(), clip, names)
    scene = Scene(layers=(background, *layers), size=size)
    return Shot(scene=scene, frames=clip.frames, shutter=_shutter(rng), whole_frame=whole_frame)


def _shutter(rng: Generator) -> float:
    return float(rng.uniform(0.3, 0.9))


def _spectator(rng: Generator, at: tuple[float, float], height: float) -> tuple[Layer, ...]:
    """Head, shoulders and raised or lowered arms in one drawing; sways and bobs by a few pixels."""
    canvas = VectorCanvas(40, 44, height / 44)
    shirt, skin = rng.integers(30, 230, 3).tolist(), (int(rng.integers(120, 235)), 150, 115)
    canvas.ellipse((20, 38), (13, 20), tuple(shirt))
    canvas.line((9, 28), (5 + rng.uniform(-3, 3), rng.choice([8, 40])), 5, tuple(shirt))
    canvas.disc((20, 12), 7.5, skin)
    canvas.ellipse((20, 7.5), (8, 5), tuple(rng.integers(10, 120, 3).tolist()))
    canvas.disc((17.5, 12.5), 1, (20, 20, 20))
    canvas.disc((22.5, 12.5), 1, (20, 20, 20))
    placement = translation(-height / 2, -height / 2) @ zoom(height / 44) @ canvas.pixel_to_unit()
    rate = rng.uniform(0.04, 0.12)
    phase, sway, bob = rng.uniform(0, 2 * math.pi), rng.uniform(0.5, 3), rng.uniform(0.3, 2)

    def homography(t: float) -> Matrix:
        angle = 2 * math.pi * rate * t + phase
        moved: Matrix = translation(at[0] + sway * math.sin(angle), at[1] + bob * math.cos(2 * angle))
        return moved @ placement

    return (Layer(texture=canvas.texture(), homography=homography, mover=True),)


def _branch(rng: Generator, size: tuple[int, int]) -> Layer:
    """A leafy patch that swings about its lower end."""
    radius = rng.uniform(20, 45)
    mask = _leaves(rng, blob(rng, radius))
    picture, side = photograph(rng, FOLIAGE[:2]), len(mask)
    if picture.shape[1] > 1200:  # reduced to detail as fine as that of the background
        picture = np.asarray(cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    crop = detailed_crop(rng, picture, (side, side))
    x, y = rng.uniform(0, size[1]), rng.uniform(0.3 * size[0], size[0])
    swing = smooth_noise(rng, size=4 / (2 * radius), rate=0.08)
    placement = translation(0, -radius) @ zoom(1 / TEXTURE_SCALE) @ translation(-side / 2, -side / 2)
    return Layer(
        texture=premultiply(crop, mask),
        homography=lambda t: translation(x, y) @ rotation(swing(t)) @ placement,
        mover=True,
    )


def _leaves(rng: Generator, mask: Array) -> Array:
    """A mask with gaps between leaves."""
    noise = cv2.GaussianBlur(rng.standard_normal(mask.shape).astype(np.float32), (0, 0), 4)
    return np.asarray(mask * np.clip(2 * noise / noise.std() + 2, 0, 1), np.float32)


def _waves(rng: Generator, size: tuple[int, int], shade: float) -> Layer:
    """A faint translucent layer of waves over the lower half, black or white, that runs sideways."""
    height, width = (size[0] // 2) * TEXTURE_SCALE, (size[1] + 160) * TEXTURE_SCALE
    noise = rng.standard_normal((height, width)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), sigmaX=9, sigmaY=2.5)
    alpha = np.clip(0.06 * noise / noise.std(), 0, 0.25).astype(np.float32)
    alpha *= np.linspace(0, 1, height, dtype=np.float32)[:, None]
    texture = np.stack([alpha * shade] * 3 + [alpha], axis=-1)
    drift = constant_velocity(rng.uniform(1, 3) * (1 if shade else -1), rng.uniform(-0.3, 0.3))
    placement = translation(-80, size[0] / 2) @ zoom(1 / TEXTURE_SCALE)
    return Layer(texture=texture, homography=lambda t: drift(t) @ placement, mover=True)


def _ticker(rng: Generator, size: tuple[int, int]) -> tuple[Layer, ...]:
    height, letters = 34, rng.uniform(15, 21)
    strip = VectorCanvas(size[1] + 4, height, 1)
    strip.box(0, 0, (size[1] + 4, height), (*rng.integers(0, 90, 3).tolist(), 255))
    at = translation(-2, size[0] - height - rng.uniform(0, 30))
    text = VectorCanvas(1400, height, 1)
    text.text(_WORDS * 2, (700, height / 2), letters, (250, 250, 244))
    scroll = _stepwise(constant_velocity(-rng.uniform(6, 12), 0))
    return (
        Layer(texture=strip.texture(), homography=lambda t: at @ strip.pixel_to_unit()),
        Layer(
            texture=text.texture(),
            homography=lambda t: at @ scroll(t) @ text.pixel_to_unit(),
            mover=True,
        ),
    )


def _credits(rng: Generator, size: tuple[int, int]) -> tuple[Layer, ...]:
    text = VectorCanvas(300, 560, 1)
    for k in range(20):
        words = " ".join("".join(rng.choice(list("AEIORSTNLMKD"), 6)) for _ in range(2))
        text.text(words, (150, 16 + 28 * k), 17, (252, 252, 248))
    at = translation(rng.uniform(0, size[1] - 300), 0)
    scroll = _stepwise(constant_velocity(0, -rng.uniform(6, 12)))
    return (
        Layer(texture=text.texture(), homography=lambda t: at @ scroll(t) @ text.pixel_to_unit(), mover=True),
    )


def _stepwise(motion: HomographyFunction) -> HomographyFunction:
    """`motion` between the exposures, rest during each: an overlay is sharp in every frame."""
    return lambda t: motion(round(t))


def _glow(rng: Generator, size: tuple[int, int]) -> Tensor:
    """[3, H, W] light of a lamp."""
    y, x = np.mgrid[: size[0], : size[1]]
    distance = np.hypot(x - rng.uniform(0, size[1]), y - rng.uniform(0, size[0]))
    spot = 1 / (1 + (distance / rng.uniform(6, 14)) ** 3)
    colour = rng.uniform(0.3, 1, 3)
    return torch.from_numpy((spot * colour[:, None, None]).astype(np.float32))
