"""Drawn movers: balls, rackets, persons. Each is centred on the origin, in frame pixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np

from .cutouts import TEXTURE_SCALE
from .layered_scene import Array, HomographyFunction, Layer
from .motion import translation, zoom
from .patterns import Generator
from .player import Kit, runner
from .vector_canvas import Colour, VectorCanvas, add_grain

FIGURE_HEIGHT = 146.0  # units of a runner from hair to soles
_WHITE, _BLACK = (244, 244, 240), (24, 24, 30)
# Letters and digits that are the same in a mirror: runners to the left are mirrored.
_NAMES, _NUMBERS = ("AVA", "OTTO", "ATA", "HANNAH"), ("8", "11", "88", "80")
_SKINS = ((232, 184, 150), (214, 158, 120), (176, 122, 88), (134, 88, 62))
_HAIRS = ((52, 34, 26), (24, 20, 20), (150, 96, 40), (196, 160, 96))


def ball(rng: Generator, motion: HomographyFunction, *, diameter: float) -> Layer:
    """A ball with the pattern of one of five sports."""
    canvas = VectorCanvas(100 * (1 + 8 / diameter), 100 * (1 + 8 / diameter), diameter / 100)
    middle = canvas.width / 2
    paint = _BALLS[int(rng.integers(len(_BALLS)))]
    paint(canvas, middle, rng)
    texture = _shade_sphere(_cut_disc(canvas.texture(), diameter), diameter)
    texture = add_grain(texture, rng, strength=0.08, size=1.2)
    return _centred(texture, motion)


def racket(rng: Generator, motion: HomographyFunction, *, length: float) -> Layer:
    """A tennis racket with strings and a grip, upright."""
    canvas = VectorCanvas(52, 112, length / 100)
    frame, trim = _vivid(rng), _vivid(rng)
    canvas.line((26, 60), (26, 102), 5.5, _BLACK)
    for k in range(9):  # the tape of the grip
        canvas.line((23.6, 72 + 3.6 * k), (28.4, 70.4 + 3.6 * k), 0.9, (150, 150, 150))
    canvas.line((26, 102), (26, 105), 7, trim)
    canvas.line((19, 52), (26, 66), 3.4, frame)
    canvas.line((33, 52), (26, 66), 3.4, frame)
    canvas.ellipse((26, 32), (21, 27), frame)
    canvas.ellipse((26, 32), (18.2, 24.2), (0, 0, 0, 0))
    _strings(canvas)
    for angle in np.linspace(0, 2 * math.pi, 12, endpoint=False):
        at = (26 + 19.6 * math.cos(angle), 32 + 25.6 * math.sin(angle))
        canvas.disc(at, 1.5, trim if rng.random() < 0.6 else _WHITE)
    texture = add_grain(canvas.texture(), rng, strength=0.08, size=1.2)
    return _centred(texture, motion)


def person(
    rng: Generator, motion: HomographyFunction, *, height: float, facing: int, stride_rate: float = 0.0
) -> tuple[Layer, ...]:
    """A runner with wrinkled clothes, upright and centred on the hips; without strides, frozen in one pose.

    Args:
        rng: Random generator.
        motion: Of the whole body.
        height: In pixels.
        facing: 1 to the right, -1 to the left.
        stride_rate: Strides (left and right) per frame interval.
    """
    scale = height / FIGURE_HEIGHT
    size = zoom(scale) @ np.diag([float(facing), 1, 1])
    layers = runner(
        _kit(rng),
        lambda t: motion(t) @ size,
        scale=scale,
        stride_rate=stride_rate,
        phase=rng.uniform(0, 2 * math.pi),
    )
    return tuple(replace(layer, texture=_wrinkle(layer.texture, rng)) for layer in layers)


def _centred(texture: Array, motion: HomographyFunction) -> Layer:
    height, width = texture.shape[:2]
    placement = zoom(1 / TEXTURE_SCALE) @ translation(-(width - 1) / 2, -(height - 1) / 2)
    return Layer(texture=texture, homography=lambda t: motion(t) @ placement, mover=True)


def _kit(rng: Generator) -> Kit:
    shirt = _vivid(rng)
    dark = sum(shirt) < 330
    return Kit(
        number=str(rng.choice(_NUMBERS)),
        name=str(rng.choice(_NAMES)),
        shirt=shirt,
        trim=_WHITE if dark else _BLACK,
        shorts=_vivid(rng) if rng.random() < 0.6 else (_BLACK if not dark else _WHITE),
        skin=_SKINS[int(rng.integers(len(_SKINS)))],
        hair=_HAIRS[int(rng.integers(len(_HAIRS)))],
    )


def _vivid(rng: Generator) -> Colour:
    """A random saturated colour."""
    hue = np.array([[[rng.uniform(0, 180), rng.uniform(110, 230), rng.uniform(90, 235)]]]).astype(np.uint8)
    return tuple(cv2.cvtColor(hue, cv2.COLOR_HSV2RGB)[0, 0].tolist())


def _wrinkle(texture: Array, rng: Generator) -> Array:
    """Fine and coarse light and shade, as of cloth, in three octaves."""
    for strength, size in ((0.08, 1.2), (0.12, 3.0), (0.16, 8.0)):
        texture = add_grain(texture, rng, strength=strength, size=size)
    return texture


def _strings(canvas: VectorCanvas) -> None:
    for k in range(-5, 6):
        x = 3.3 * k
        reach = 24.6 * math.sqrt(1 - (x / 18.6) ** 2)
        canvas.line((26 + x, 32 - reach), (26 + x, 32 + reach), 0.7, (236, 236, 220))
    for k in range(-7, 8):
        y = 3.3 * k
        reach = 18.6 * math.sqrt(1 - (y / 24.6) ** 2)
        canvas.line((26 - reach, 32 + y), (26 + reach, 32 + y), 0.7, (236, 236, 220))


def _football(canvas: VectorCanvas, middle: float, rng: Generator) -> None:
    canvas.disc((middle, middle), 60, _WHITE)
    start = rng.uniform(0, math.pi)
    for k in range(5):
        angle = start + 2 * math.pi * k / 5
        x, y = math.cos(angle), math.sin(angle)
        canvas.line((middle + 12 * x, middle + 12 * y), (middle + 32 * x, middle + 32 * y), 3, (90, 90, 96))
        canvas.polygon(_pentagon((middle + 42 * x, middle + 42 * y), 14, angle), _BLACK)
    canvas.polygon(_pentagon((middle, middle), 16, start), _BLACK)


def _pentagon(centre: tuple[float, float], radius: float, start: float) -> list[tuple[float, float]]:
    angles = [start + 2 * math.pi * k / 5 for k in range(5)]
    return [(centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a)) for a in angles]


def _basketball(canvas: VectorCanvas, middle: float, rng: Generator) -> None:
    canvas.disc((middle, middle), 60, (214, 112, 44))
    for side in (-1, 1):
        _ring(canvas, (middle + side * 52, middle), 34, 4, (40, 24, 16))
    canvas.line((middle - 50, middle), (middle + 50, middle), 4, (40, 24, 16))
    canvas.line((middle, middle - 50), (middle, middle + 50), 4, (40, 24, 16))


def _tennis_ball(canvas: VectorCanvas, middle: float, rng: Generator) -> None:
    canvas.disc((middle, middle), 60, (206, 226, 60))
    for side in (-1, 1):
        _ring(canvas, (middle + side * 58, middle + side * 8), 42, 7, _WHITE)
    canvas.text("3", (middle, middle), 26, (40, 60, 40))


def _volleyball(canvas: VectorCanvas, middle: float, rng: Generator) -> None:
    first, second = _vivid(rng), _vivid(rng)
    canvas.disc((middle, middle), 60, (246, 240, 220))
    for k in range(3):
        angle = 2 * math.pi * k / 3
        x, y = math.cos(angle), math.sin(angle)
        for shift, colour in ((10, first), (26, _WHITE), (40, second)):
            start = (middle - shift * y, middle + shift * x)
            canvas.line(start, (start[0] + 60 * x, start[1] + 60 * y), 10, colour)


def _beach_ball(canvas: VectorCanvas, middle: float, rng: Generator) -> None:
    centre = (middle + rng.uniform(-18, 18), middle + rng.uniform(-18, 18))
    colours = [_vivid(rng), _WHITE, _vivid(rng), _WHITE, _vivid(rng), _WHITE]
    for k, colour in enumerate(colours):
        angles = np.linspace(k, k + 1, 8) * (2 * math.pi / len(colours))
        rim = [(centre[0] + 90 * math.cos(a), centre[1] + 90 * math.sin(a)) for a in angles]
        canvas.polygon([centre, *rim], colour)
    canvas.disc(centre, 9, _vivid(rng))


_BALLS: tuple[Callable[[VectorCanvas, float, Generator], None], ...] = (
    _football,
    _basketball,
    _tennis_ball,
    _volleyball,
    _beach_ball,
)


def _ring(
    canvas: VectorCanvas, centre: tuple[float, float], radius: float, width: float, colour: Colour
) -> None:
    angles = np.linspace(0, 2 * math.pi, 49)
    points = [(centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a)) for a in angles]
    for start, end in pairwise(points):
        canvas.line(start, end, width, colour)


def _cut_disc(texture: Array, diameter: float) -> Array:
    """The texture inside a disc of `diameter` frame pixels, with a soft edge."""
    distance, _, _ = _from_centre(texture)
    cover = np.clip(diameter - distance + 0.5, 0, 1).astype(np.float32)  # radius in texture pixels
    return np.asarray(texture * cv2.GaussianBlur(cover, (0, 0), 0.8)[..., None], np.float32)


def _shade_sphere(texture: Array, diameter: float) -> Array:
    """Light from above left: a sphere instead of a disc."""
    distance, x, y = _from_centre(texture)
    depth = np.sqrt(np.clip(1 - (distance / diameter) ** 2, 0.02, 1))
    light = 0.35 + 0.75 * np.clip(0.8 * depth - 0.3 * x / diameter - 0.5 * y / diameter, 0, 1)
    return np.concatenate([texture[..., :3] * light[..., None], texture[..., 3:]], -1, dtype=np.float32)


def _from_centre(texture: Array) -> tuple[Array, Array, Array]:
    """Distance, x and y of each texture pixel from the centre, in texture pixels."""
    height, width = texture.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = x - (width - 1) / 2, y - (height - 1) / 2
    return np.hypot(x, y), x, y
