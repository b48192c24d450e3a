"""A bookshelf: text, edges and colours everywhere, as a static scene for bursts."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from freezeframe.data.synthesis.scene2d.layered_scene import Array
from freezeframe.data.synthesis.scene2d.vector_canvas import Colour, VectorCanvas, add_grain

_ROW = 118.0  # units: height of a row
_BOARD = 9.0  # units: thickness of a board
_CLOTH: Sequence[Colour] = (
    (122, 34, 38), (30, 62, 92), (206, 178, 120), (44, 84, 62), (228, 220, 200), (36, 36, 42), (196, 112, 44),
    (92, 118, 140), (148, 58, 92), (236, 196, 72), (70, 60, 110), (172, 180, 160),
)  # fmt: skip
_TITLES = (
    "Opticks", "On Light", "The Latent Image", "Film & Grain", "A Thousandth of a Second", "Motion Studies",
    "Parallax", "Shutter", "The Decisive Frame", "Horse in Motion", "Point Spread", "Chronophotography",
    "Sampling", "Dark Adaptation", "Exposure", "The Lens Maker", "Silver Salts", "Field of View",
)  # fmt: skip
_NAMES = ("NEWTON", "MUYBRIDGE", "MAREY", "HOOKE", "TALBOT", "HERSCHEL", "ABBE", "IBN AL-HAYTHAM", "GAUSS")


def bookshelf(width: int, height: int, *, seed: int) -> Tensor:
    """[3, height, width] linear RGB of rows of books, without frequencies above the Nyquist limit."""
    rng = np.random.default_rng(seed)
    scale = height / (4.5 * _ROW)
    rows = [_row(rng, width=width / scale, scale=scale) for _ in range(6)]
    tall = np.concatenate(rows)[:, : 2 * width]
    shelf = tall[: 2 * height, :, :3] * _lamp(2 * height, tall.shape[1])
    resized = cv2.resize(shelf, (width, height), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))


def _row(rng: np.random.Generator, *, width: float, scale: float) -> Array:
    """One row of books on its board, drawn rotated by 90 degrees. [h, w, 4] as `VectorCanvas.texture`."""
    canvas = VectorCanvas(_ROW, width + 4, scale)
    canvas.box(0, 0, (_ROW, width + 4), (34, 24, 18))
    canvas.box(0, 0, (_BOARD, width + 4), (150, 106, 66))
    canvas.box(_BOARD - 1.2, 0, (1.2, width + 4), (92, 60, 36))
    offset = 0.0
    while offset < width + 4:
        thick = float(rng.uniform(11, 27))
        _book(canvas, rng, offset=offset, thick=thick)
        offset += thick + float(rng.choice([0.5, 0.8, 1.2, 7.0], p=[0.4, 0.3, 0.22, 0.08]))
    return np.rot90(add_grain(canvas.texture(), rng, strength=0.10, size=1.2))


def _book(canvas: VectorCanvas, rng: np.random.Generator, *, offset: float, thick: float) -> None:
    """Draw a spine from its lower edge (left) to the upper one (right), with bands, a title and a name."""
    cloth = _CLOTH[int(rng.integers(len(_CLOTH)))]
    ink: Colour = (
        (34, 28, 26) if sum(cloth) > 420 else ((236, 206, 132), (240, 236, 228))[int(rng.integers(2))]
    )
    length = float(rng.uniform(74, 102))
    canvas.box(_BOARD, offset, (length, thick), cloth)
    canvas.box(_BOARD, offset, (length, 1.0), _scale_colour(cloth, 1.25))
    canvas.box(_BOARD, offset + thick - 1.4, (length, 1.4), _scale_colour(cloth, 0.6))
    for position in (0.05, 0.08, 0.24, 0.93):
        canvas.box(_BOARD + position * length, offset + 0.6, (1.1, thick - 1.4), ink)
    title = _TITLES[int(rng.integers(len(_TITLES)))]
    size = min(0.62 * thick, 1.15 * length / len(title), 13)
    canvas.text(title, (_BOARD + 0.58 * length, offset + thick / 2), size, ink)
    if thick > 15:
        name = _NAMES[int(rng.integers(len(_NAMES)))]
        canvas.text(name[:7], (_BOARD + 0.16 * length, offset + thick / 2), 3.6, ink)


def _lamp(height: int, width: int) -> Array:
    """[h, w, 3] illumination: warm, brightest above the middle, with falloff to the corners."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    squared_distance = ((x / width - 0.45) / 0.8) ** 2 + ((y / height - 0.3) / 0.9) ** 2
    brightness = (1.25 / (1 + 1.6 * squared_distance))[..., None]
    return np.asarray(brightness * np.array([1.0, 0.93, 0.82]), np.float32)


def _scale_colour(colour: Colour, factor: float) -> Colour:
    return tuple(min(round(part * factor), 255) for part in colour[:3])
