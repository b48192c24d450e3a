"""Vector drawings, rendered to textures without aliasing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from .layered_scene import Array, Matrix

Colour = tuple[int, ...]  # sRGB code values, and alpha from 0 to 255 unless opaque
Point = tuple[float, float]  # x right, y down, in units

_SUPERSAMPLING = 2  # drawn pixels per texture pixel and axis
_TEXTURE_SCALE = 2  # texture pixels per frame pixel: bilinear sampling then keeps all frame frequencies
_PIXEL_SIGMA = 0.8  # texture pixels: standard deviation of the PSF of lens and pixel aperture
_STRIP_ROWS = 256  # drawn rows converted at once: the whole canvas in float32 takes too much memory
_HEADROOM = 6.0  # brightest highlight of `boost_highlights`, relative to white


class VectorCanvas:
    """A transparent canvas that the drawing methods change.

    Args:
        width: Units.
        height: Units.
        scale: Frame pixels per unit.
    """

    def __init__(self, width: float, height: float, scale: float) -> None:
        self.width, self.height, self.scale = width, height, scale
        fine = scale * _TEXTURE_SCALE
        size = (math.ceil(width * fine) * _SUPERSAMPLING, math.ceil(height * fine) * _SUPERSAMPLING)
        self._image = Image.new("RGBA", size)

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
        """Draw a line with round caps."""
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
        """Draw text in Pillow's own typeface, which is the same on every machine."""
        font = ImageFont.load_default(size=height * self.pixels_per_unit)
        at = (centre[0] * self.pixels_per_unit, centre[1] * self.pixels_per_unit)
        stroke = max(round(height * self.pixels_per_unit * 0.03), 0)
        self._draw.text(at, words, fill=colour, font=font, anchor="mm", stroke_width=stroke)

    def texture(self) -> Array:
        """[h, w, 4] premultiplied linear RGB and alpha, as `Layer.texture`."""
        encoded = np.asarray(self._image)
        strips = [
            _downsample(encoded[row : row + _STRIP_ROWS]) for row in range(0, len(encoded), _STRIP_ROWS)
        ]
        small = np.concatenate(strips)
        return np.asarray(
            cv2.GaussianBlur(small, (0, 0), _PIXEL_SIGMA, borderType=cv2.BORDER_REPLICATE), np.float32
        )

    def pixel_to_unit(self) -> Matrix:
        """[3, 3] homography from texture pixels to units."""
        fine = self.scale * _TEXTURE_SCALE
        return np.array([[1 / fine, 0, 0.5 / fine], [0, 1 / fine, 0.5 / fine], [0, 0, 1]])

    @property
    def _draw(self) -> ImageDraw.ImageDraw:
        return ImageDraw.Draw(self._image)


def boost_highlights(texture: Array, *, above: float = 0.8) -> Array:
    """Scale colours brighter than `above` to several times white, as of lamps and specular reflections."""
    peak = texture[..., :3].max(axis=-1, keepdims=True)
    weight = np.clip((peak - above) / (1 - above), 0, 1) ** 2
    bright = texture[..., :3] * (1 + weight * (_HEADROOM - 1))
    return np.concatenate([bright, texture[..., 3:]], axis=-1, dtype=np.float32)


def add_grain(texture: Array, rng: np.random.Generator, *, strength: float, size: float) -> Array:
    """Multiply by Gaussian noise of relative `strength`, low-passed to `size` texture pixels."""
    grain = rng.standard_normal(texture.shape[:2]).astype(np.float32)
    soft = cv2.GaussianBlur(grain, (0, 0), size) * np.float32(2 * np.sqrt(np.pi) * size)
    factor = np.clip(1 + strength * soft, 0.1, 3)[..., None]
    return np.concatenate([texture[..., :3] * factor, texture[..., 3:]], axis=-1, dtype=np.float32)


def _downsample(encoded: npt.NDArray[np.uint8]) -> Array:
    """[H, W, 4] sRGB code values to [H / 2, W / 2, 4] premultiplied linear RGB and alpha."""
    cover = encoded[..., 3:].astype(np.float32) / 255
    linear = np.concatenate([_LINEAR[encoded[..., :3]] * cover, cover], axis=-1)
    size = (encoded.shape[1] // _SUPERSAMPLING, encoded.shape[0] // _SUPERSAMPLING)
    return np.asarray(cv2.resize(linear, size, interpolation=cv2.INTER_AREA), np.float32)


def _srgb_table() -> Array:
    """Linear values of the sRGB code values, in float64 and rounded once, unlike those of `data.color`."""
    encoded = np.arange(256) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return linear.astype(np.float32)


_LINEAR = _srgb_table()
