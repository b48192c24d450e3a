"""Static background of a match: crowd, advertising boards, and a floor such as the football pitch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from freezeframe.data.synthesis.scene2d.layered_scene import Layer
from freezeframe.data.synthesis.scene2d.motion import translation
from freezeframe.data.synthesis.scene2d.vector_canvas import Colour, VectorCanvas, add_grain

Span = tuple[float, float]  # width and height in units
Floor = Callable[[VectorCanvas, float], None]  # draws below a y, in units of the canvas

_BOARDS, _FLOOR = 136.0, 176.0  # units: y of the tops of boards and floor
_BOARD_WIDTH = 172.0
_WORDS = ("FREEZE", "SHUTTER 1/250", "PHOTON & SONS", "KEEP THE LIGHT", "f/2.8", "NO BLUR", "24·25·30·60 FPS")
_BOARD_COLOURS: Sequence[tuple[Colour, Colour]] = (
    ((245, 245, 240), (18, 60, 150)),
    ((16, 24, 48), (255, 214, 64)),
    ((190, 28, 36), (255, 250, 244)),
    ((250, 206, 40), (24, 24, 28)),
    ((18, 120, 84), (240, 252, 240)),
    ((30, 32, 40), (110, 220, 255)),
    ((232, 236, 240), (200, 40, 90)),
)
_SCARVES: Sequence[Colour] = ((205, 32, 40), (240, 238, 232), (36, 78, 190), (250, 206, 40), (40, 42, 52))
_SKINS: Sequence[Colour] = ((236, 190, 160), (214, 158, 120), (164, 112, 80), (112, 74, 54))
_HAIR: Sequence[Colour] = ((28, 22, 20), (74, 48, 30), (130, 96, 60), (176, 150, 110), (110, 110, 112))


def ground(rng: np.random.Generator, floor: Floor, *, size: Span, margin: float, scale: float) -> Layer:
    """The static world as one texture, with `margin` units above and left of its origin."""
    width, height = size
    canvas = VectorCanvas(width, height, scale)
    floor(canvas, margin + _FLOOR)
    _crowd(canvas, rng, margin + _BOARDS)
    _boards(canvas, margin + _BOARDS)
    texture = add_grain(canvas.texture(), rng, strength=0.09, size=1.1 * max(scale, 0.75))
    canvas_to_world = translation(-margin, -margin) @ canvas.pixel_to_unit()
    return Layer(texture=texture, homography=lambda t: canvas_to_world, mirrored=True)


def _crowd(canvas: VectorCanvas, rng: np.random.Generator, bottom: float) -> None:
    canvas.box(0, 0, (canvas.width, bottom), (44, 46, 56))
    for row, y in enumerate(np.arange(4.0, bottom + 8, 11.5).tolist()):
        canvas.box(0, y + 5, (canvas.width, 1.6), (92, 94, 104))
        for x in np.arange(3.0, canvas.width, 9.5).tolist():
            if x % 210 > 196:  # stairs
                continue
            if rng.random() < 0.93:
                _spectator(
                    canvas, rng, (x + 4.7 * (row % 2) + rng.uniform(-1.4, 1.4), y + rng.uniform(-1.2, 1.2))
                )
    for x in np.arange(203.0, canvas.width, 210).tolist():
        for y in np.arange(0.0, bottom, 4).tolist():
            canvas.box(x - 6, y, (12, 2), (150, 150, 154))
    _banners(canvas, bottom)


def _spectator(canvas: VectorCanvas, rng: np.random.Generator, at: tuple[float, float]) -> None:
    x, y = at
    coat = _aerial_tint(_jitter(_choose(rng, _SCARVES), rng))
    canvas.ellipse((x, y + 8), (4.6, 6), coat)
    if rng.random() < 0.3:
        canvas.box(x - 3.6, y + 3.4, (7.2, 1.7), _aerial_tint(_choose(rng, _SCARVES)))
    canvas.ellipse((x, y), (2.6, 3.2), _aerial_tint(_jitter(_choose(rng, _SKINS), rng)))
    canvas.ellipse((x, y - 1.6), (2.7, 2.0), _aerial_tint(_choose(rng, _HAIR)))
    if rng.random() < 0.14:  # raised arms
        for side in (-1, 1):
            canvas.line((x + 4 * side, y + 5), (x + 5 * side, y - 4), 1.7, coat)


def _banners(canvas: VectorCanvas, bottom: float) -> None:
    words = ("CURVA NORD", "7 ISO 7", "ALLEZ ALLEZ", "SINCE 1888", "COME ON!")
    for k, x in enumerate(np.arange(90.0, canvas.width - 110, 262).tolist()):
        background, ink = _BOARD_COLOURS[(2 * k + 2) % len(_BOARD_COLOURS)]
        y = bottom - 88 + 22 * (k % 3)
        canvas.box(x, y, (98, 19), background)
        canvas.text(words[k % len(words)], (x + 49, y + 9.5), 14, ink)


def _boards(canvas: VectorCanvas, top: float) -> None:
    canvas.box(0, top - 3, (canvas.width, 46), (24, 26, 30))
    for k, x in enumerate(np.arange(0.0, canvas.width, _BOARD_WIDTH).tolist()):
        background, ink = _BOARD_COLOURS[k % len(_BOARD_COLOURS)]
        words = _WORDS[k % len(_WORDS)]
        canvas.box(x + 1, top, (_BOARD_WIDTH - 2, 37), background)
        middle = x + _BOARD_WIDTH / 2
        canvas.text(words, (middle, top + 15), min(24, 240 / len(words)), ink)
        canvas.text("freely licensed · rendered light · exact truth", (middle, top + 30.5), 6.2, ink)


def pitch(canvas: VectorCanvas, top: float) -> None:
    """Draw a football pitch below `top`."""
    canvas.box(0, top, (canvas.width, canvas.height - top), (58, 124, 52))
    depth = canvas.height - top
    for k in range(-8, int(canvas.width / 60) + 8):
        if k % 2:
            left, slant = 60.0 * k, 0.9 * depth
            corners = [
                (left, top),
                (left + 60, top),
                (left + 60 - slant, top + depth),
                (left - slant, top + depth),
            ]
            canvas.polygon(corners, (72, 142, 60))
    _grass(canvas, top)
    _lines(canvas, top)


def _grass(canvas: VectorCanvas, top: float) -> None:
    """Draw blades of grass: without texture, a pan would not be visible on the pitch."""
    rng = np.random.default_rng(int(canvas.width))
    count = int(canvas.width * (canvas.height - top) / 26)
    shades: Sequence[Colour] = ((40, 92, 38), (96, 168, 78), (50, 108, 44), (128, 150, 84))
    for x, y, variation in rng.random((count, 3)).tolist():
        scale = 0.35 + y  # nearer blades are larger
        root = (x * canvas.width, top + y * (canvas.height - top))
        tip = (root[0] + 2.4 * (variation - 0.5), root[1] - 3.2 * scale)
        canvas.line(root, tip, 0.8 * scale + 0.25, shades[int(variation * 997) % len(shades)])


def _lines(canvas: VectorCanvas, top: float) -> None:
    chalk = (238, 244, 236)
    canvas.box(0, top + 14, (canvas.width, 2.6), chalk)
    canvas.box(0, top + 92, (canvas.width, 4.0), chalk)
    for x in np.arange(150.0, canvas.width + 200, 330).tolist():
        canvas.line((x, top + 15), (x - 90, top + 94), 3.2, chalk)
        canvas.line((x + 130, top + 94), (x + 10, top + 215), 4.4, chalk)
        canvas.disc((x + 180, top + 56), 3.2, chalk)


def _aerial_tint(colour: Colour) -> Colour:
    """Darken a colour, and blend it with the blue of aerial perspective."""
    return tuple(round(0.55 * part + 0.18 * air) for part, air in zip(colour, (70, 84, 120), strict=True))


def _choose(rng: np.random.Generator, colours: Sequence[Colour]) -> Colour:
    return colours[int(rng.integers(len(colours)))]


def _jitter(colour: Colour, rng: np.random.Generator) -> Colour:
    return tuple(int(np.clip(part + rng.integers(-26, 27), 0, 255)) for part in colour)
