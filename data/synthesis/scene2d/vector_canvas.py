"""Pictures drawn for scenes: a sheet measured in units of length, turned into light without aliasing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from .layered_scene import Array, Matrix

Colour = tuple[int, ...]  # sRGB codes, and cover in 0 to 255 unless full
Point = tuple[float, float]  # x right, y down, in units

_FINER = 2  # drawn pixels per texture pixel: edges are averages, not stairs
_DENSITY = 2  # texture pixels per frame pixel: a bilinear read then loses nothing that a frame can show
_SOFT = 0.8  # sigma in texture pixels: what a lens and a pixel's own area leave of an edge
_STRIP = 256  # drawn rows turned into light at once: a whole sheet in float32 would be huge
_HEADROOM = 6.0  # brightest highlight of `glowing`, over white


@dataclass(frozen=True, slots=True)
class Sheet:
    """Transparent paper of `width` by `height` units; a frame shows `scale` pixels per unit."""

    width: float
    height: float
    scale: float
    image: Image.Image = field(init=False)

    def __post_init__(self) -> None:
        fine = self.scale * _DENSITY
        size = (math.ceil(self.width * fine) * _FINER, math.ceil(self.height * fine) * _FINER)
        object.__setattr__(self, "image", Image.new("RGBA", size))

    @property
    def drawn(self) -> float:
        """Drawn pixels per unit."""
        return self.scale * _DENSITY * _FINER

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        self._draw.polygon([(x * self.drawn, y * self.drawn) for x, y in points], fill=colour)

    def box(self, left: float, top: float, size: Point, colour: Colour) -> None:
        width, height = size
        right, bottom = left + width, top + height
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour)

    def line(self, start: Point, end: Point, width: float, colour: Colour) -> None:
        """A stroke with round ends."""
        thick = max(round(width * self.drawn), 1)
        ends = [(x * self.drawn, y * self.drawn) for x, y in (start, end)]
        self._draw.line(ends, fill=colour, width=thick)
        for x, y in (start, end):
            self.disc((x, y), width / 2, colour)

    def disc(self, centre: Point, radius: float, colour: Colour) -> None:
        self.ellipse(centre, (radius, radius), colour)

    def ellipse(self, centre: Point, radii: Point, colour: Colour) -> None:
        (x, y), (a, b) = centre, radii
        bounds = [v * self.drawn for v in (x - a, y - b, x + a, y + b)]
        self._draw.ellipse(bounds, fill=colour)

    def text(self, words: str, centre: Point, height: float, colour: Colour) -> None:
        """Words in Pillow's own typeface, so that every machine draws the same."""
        font = ImageFont.load_default(size=height * self.drawn)
        at = (centre[0] * self.drawn, centre[1] * self.drawn)
        stroke = max(round(height * self.drawn * 0.03), 0)
        self._draw.text(at, words, fill=colour, font=font, anchor="mm", stroke_width=stroke)

    def texture(self) -> Array:
        """[h, w, 4] linear RGB times cover, and cover, as `Layer.texture`."""
        codes = np.asarray(self.image)
        strips = [_averaged(codes[row : row + _STRIP]) for row in range(0, len(codes), _STRIP)]
        small = np.concatenate(strips)
        return np.asarray(cv2.GaussianBlur(small, (0, 0), _SOFT, borderType=cv2.BORDER_REPLICATE), np.float32)

    def in_units(self) -> Matrix:
        """[3, 3] from pixels of the texture to units on the sheet."""
        fine = self.scale * _DENSITY
        return np.array([[1 / fine, 0, 0.5 / fine], [0, 1 / fine, 0.5 / fine], [0, 0, 1]])

    @property
    def _draw(self) -> ImageDraw.ImageDraw:
        return ImageDraw.Draw(self.image)


def glowing(texture: Array, *, above: float = 0.8) -> Array:
    """The same texture with its lights brighter than white, as lamps and glints are."""
    peak = texture[..., :3].max(axis=-1, keepdims=True)
    part = np.clip((peak - above) / (1 - above), 0, 1) ** 2
    bright = texture[..., :3] * (1 + part * (_HEADROOM - 1))
    return np.concatenate([bright, texture[..., 3:]], axis=-1, dtype=np.float32)


def grained(texture: Array, rng: np.random.Generator, *, strength: float, size: float) -> Array:
    """The same texture under a random pattern of relative `strength` and grain `size` (texture pixels)."""
    grain = rng.standard_normal(texture.shape[:2]).astype(np.float32)
    soft = cv2.GaussianBlur(grain, (0, 0), size) * np.float32(2 * np.sqrt(np.pi) * size)
    factor = np.clip(1 + strength * soft, 0.1, 3)[..., None]
    return np.concatenate([texture[..., :3] * factor, texture[..., 3:]], axis=-1, dtype=np.float32)


def _averaged(codes: npt.NDArray[np.uint8]) -> Array:
    """[H, W, 4] codes to [H / 2, W / 2, 4] linear light times cover, and cover."""
    cover = codes[..., 3:].astype(np.float32) / 255
    light = np.concatenate([_LINEAR[codes[..., :3]] * cover, cover], axis=-1)
    size = (codes.shape[1] // _FINER, codes.shape[0] // _FINER)
    return np.asarray(cv2.resize(light, size, interpolation=cv2.INTER_AREA), np.float32)


def _srgb_to_light() -> Array:
    codes = np.arange(256) / 255
    bent = np.where(codes <= 0.04045, codes / 12.92, ((codes + 0.055) / 1.055) ** 2.4)
    return bent.astype(np.float32)


_LINEAR = _srgb_to_light()
