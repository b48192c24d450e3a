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

_SUPERSAMPLING = 2  # drawn pixels per texture pixel: edges are averages, not stairs
_TEXTURE_SCALE = 2  # texture pixels per frame pixel: a bilinear read then loses nothing that a frame can show
_PIXEL_SIGMA = 0.8  # sigma in texture pixels: what a lens and a pixel's own area leave of an edge
_STRIP_ROWS = 256  # drawn rows turned into light at once: a whole sheet in float32 would be huge
_HEADROOM = 6.0  # brightest highlight of `boost_highlights`, over white


@dataclass(frozen=True, slots=True)
class VectorCanvas:
    """Transparent paper of `width` by `height` units; a frame shows `scale` pixels per unit."""

    width: float
    height: float
    scale: float
    image: Image.Image = field(init=False)

    def __post_init__(self) -> None:
        fine = self.scale * _TEXTURE_SCALE
        size = (math.ceil(self.width * fine) * _SUPERSAMPLING, math.ceil(self.height * fine) * _SUPERSAMPLING)
        object.__setattr__(self, "image", Image.new("RGBA", size))

    @property
    def pixels_per_unit(self) -> float:
        """Drawn pixels per unit."""
        return self.scale * _TEXTURE_SCALE * _SUPERSAMPLING

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        self._draw.polygon(
            [(x * self.pixels_per_unit, y * self.pixels_per_unit) for x, y in points], fill=colour
        )

    def box(self, left: float, top: float, size: Point, colour: Colour) -> None:
        width, height = size
        right, bottom = left + width, top + height
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour)

    def line(self, start: Point, end: Point, width: float, colour: Colour) -> None:
        """A stroke with round ends."""
        thick = max(round(width * self.pixels_per_unit), 1)
        ends = [(x * self.pixels_per_unit, y * self.pixels_per_unit) for x, y in (start, end)]
        self._draw.line(ends, fill=colour, width=thick)
        for x, y in (start, end):
            self.disc((x, y), width / 2, colour)

    def disc(self, centre: Point, radius: float, colour: Colour) -> None:
        self.ellipse(centre, (radius, radius), colour)

    def ellipse(self, centre: Point, radii: Point, colour: Colour) -> None:
        (x, y), (a, b) = centre, radii
        bounds = [v * self.pixels_per_unit for v in (x - a, y - b, x + a, y + b)]
        self._draw.ellipse(bounds, fill=colour)

    def text(self, words: str, centre: Point, height: float, colour: Colour) -> None:
        """Words in Pillow's own typeface, so that every machine draws the same."""
        font = ImageFont.load_default(size=height * self.pixels_per_unit)
        at = (centre[0] * self.pixels_per_unit, centre[1] * self.pixels_per_unit)
        stroke = max(round(height * self.pixels_per_unit * 0.03), 0)
        self._draw.text(at, words, fill=colour, font=font, anchor="mm", stroke_width=stroke)

    def texture(self) -> Array:
        """[h, w, 4] linear RGB times cover, and cover, as `Layer.texture`."""
        encoded = np.asarray(self.image)
        strips = [
            _downsample(encoded[row : row + _STRIP_ROWS]) for row in range(0, len(encoded), _STRIP_ROWS)
        ]
        small = np.concatenate(strips)
        return np.asarray(
            cv2.GaussianBlur(small, (0, 0), _PIXEL_SIGMA, borderType=cv2.BORDER_REPLICATE), np.float32
        )

    def pixel_to_unit(self) -> Matrix:
        """[3, 3] from pixels of the texture to units on the sheet."""
        fine = self.scale * _TEXTURE_SCALE
        return np.array([[1 / fine, 0, 0.5 / fine], [0, 1 / fine, 0.5 / fine], [0, 0, 1]])

    @property
    def _draw(self) -> ImageDraw.ImageDraw:
        return ImageDraw.Draw(self.image)


def boost_highlights(texture: Array, *, above: float = 0.8) -> Array:
    """The same texture with its lights brighter than white, as lamps and glints are."""
    peak = texture[..., :3].max(axis=-1, keepdims=True)
    part = np.clip((peak - above) / (1 - above), 0, 1) ** 2
    bright = texture[..., :3] * (1 + part * (_HEADROOM - 1))
    return np.concatenate([bright, texture[..., 3:]], axis=-1, dtype=np.float32)


def add_grain(texture: Array, rng: np.random.Generator, *, strength: float, size: float) -> Array:
    """The same texture under a random pattern of relative `strength` and grain `size` (texture pixels)."""
    grain = rng.standard_normal(texture.shape[:2]).astype(np.float32)
    soft = cv2.GaussianBlur(grain, (0, 0), size) * np.float32(2 * np.sqrt(np.pi) * size)
    factor = np.clip(1 + strength * soft, 0.1, 3)[..., None]
    return np.concatenate([texture[..., :3] * factor, texture[..., 3:]], axis=-1, dtype=np.float32)


def _downsample(encoded: npt.NDArray[np.uint8]) -> Array:
    """[H, W, 4] codes to [H / 2, W / 2, 4] linear light times cover, and cover."""
    cover = encoded[..., 3:].astype(np.float32) / 255
    linear = np.concatenate([_LINEAR[encoded[..., :3]] * cover, cover], axis=-1)
    size = (encoded.shape[1] // _SUPERSAMPLING, encoded.shape[0] // _SUPERSAMPLING)
    return np.asarray(cv2.resize(linear, size, interpolation=cv2.INTER_AREA), np.float32)


def _srgb_table() -> Array:
    encoded = np.arange(256) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return linear.astype(np.float32)


_LINEAR = _srgb_table()
