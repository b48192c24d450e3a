"""Drawn patterns that are rare in photographs and frequent in sports: stripes, nets, numbers, words."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from freezeframe.data.srgb import SrgbImage

Generator = np.random.Generator

_FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX)
_LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.:-/!?&%")


def pattern(rng: Generator, *, side: int) -> SrgbImage:
    """Draw a random pattern, [side, side, 3]."""
    image = np.full((side, side, 3), _colour(rng), np.uint8)
    draw = _PATTERNS[int(rng.integers(len(_PATTERNS)))]
    draw(image, rng)
    return _shade(image, rng)


def _stripes(image: SrgbImage, rng: Generator) -> None:
    side = len(image)
    period, angle = rng.uniform(6, 60), rng.uniform(0, np.pi)
    y, x = np.mgrid[:side, :side]
    phase = (x * np.cos(angle) + y * np.sin(angle)) / period % 1
    image[phase < rng.uniform(0.25, 0.75)] = _colour(rng)
    if rng.random() < 0.3:  # a second, perpendicular set gives squares
        other = (y * np.cos(angle) - x * np.sin(angle)) / period % 1
        image[other < 0.5] = _colour(rng)


def _net(image: SrgbImage, rng: Generator) -> None:
    side = len(image)
    step, thick, ink = int(rng.integers(10, 50)), int(rng.integers(1, 5)), _colour(rng)
    lean = int(rng.integers(-step, step + 1))
    for at in range(-side, 2 * side, step):
        cv2.line(image, (at, 0), (at + lean * 4, side), ink, thick, cv2.LINE_AA)
        cv2.line(image, (0, at), (side, at + lean), ink, thick, cv2.LINE_AA)


def _words(image: SrgbImage, rng: Generator) -> None:
    side, y = len(image), 0
    while y < side:
        size = rng.uniform(0.5, 3.0)
        y += int(34 * size)
        letters = "".join(rng.choice(_LETTERS, int(rng.integers(4, 30))))
        font = _FONTS[int(rng.integers(len(_FONTS)))]
        at = (int(rng.integers(-40, side // 2)), y)
        cv2.putText(image, letters, at, font, size, _colour(rng), max(1, round(2 * size)), cv2.LINE_AA)


def _numbers(image: SrgbImage, rng: Generator) -> None:
    """Shirts: large numbers on rectangles."""
    side = len(image)
    for _ in range(int(rng.integers(3, 9))):
        x, y = rng.integers(0, side, 2).tolist()
        size = rng.uniform(1.5, 6)
        width, height = int(40 * size), int(36 * size)
        cv2.rectangle(image, (x - 9, y - height), (x + width, y + 12), _colour(rng), -1)
        number = str(int(rng.integers(100)))
        cv2.putText(
            image, number, (x, y), _FONTS[1], size, _colour(rng), max(2, round(2.5 * size)), cv2.LINE_AA
        )


def _line_art(image: SrgbImage, rng: Generator) -> None:
    side = len(image)
    for _ in range(int(rng.integers(15, 70))):
        points = rng.integers(-20, side + 20, (int(rng.integers(2, 6)), 2)).astype(np.int32)
        closed = bool(rng.random() < 0.4)
        if closed and rng.random() < 0.6:
            cv2.fillPoly(image, [points], _colour(rng), cv2.LINE_AA)
        else:
            cv2.polylines(image, [points], closed, _colour(rng), int(rng.integers(1, 8)), cv2.LINE_AA)
        radius = int(rng.integers(2, 40))
        cv2.circle(
            image, tuple(points[0].tolist()), radius, _colour(rng), int(rng.choice([-1, 2, 4])), cv2.LINE_AA
        )


def _crowd(image: SrgbImage, rng: Generator) -> None:
    """Rows of small discs of random colours."""
    side, step = len(image), int(rng.integers(9, 30))
    for y in range(0, side, step):
        for x in range(0, side, step):
            centre = (x + int(rng.integers(-2, 3)), y + int(rng.integers(-2, 3)))
            cv2.circle(image, centre, int(step * rng.uniform(0.25, 0.5)), _colour(rng), -1, cv2.LINE_AA)


_PATTERNS: tuple[Callable[[SrgbImage, Generator], None], ...] = (
    _stripes,
    _net,
    _words,
    _numbers,
    _line_art,
    _crowd,
)


def _shade(image: SrgbImage, rng: Generator) -> SrgbImage:
    """Apply a brightness ramp and grain: no real surface has one colour."""
    side = len(image)
    ramp = np.linspace(rng.uniform(0.6, 1), rng.uniform(0.6, 1), side, dtype=np.float32)
    grain = rng.standard_normal((side, side, 1)).astype(np.float32)
    grain = cv2.GaussianBlur(grain, (0, 0), rng.uniform(0.8, 2))[..., None] * rng.uniform(0, 20)
    shaded = image.astype(np.float32) * ramp[:, None, None] + grain
    return np.asarray(np.clip(shaded, 0, 255), np.uint8)


def _colour(rng: Generator) -> tuple[int, ...]:
    """A random colour, near black or white with probability 0.3."""
    if rng.random() < 0.3:
        return (int(rng.choice([12, 30, 225, 248])),) * 3
    return tuple(rng.integers(0, 256, 3).tolist())
