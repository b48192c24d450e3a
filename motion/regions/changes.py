"""Where the frames of a still camera differ from the background that the other frames show.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .background import background_range, equalise
from .detection import Unexplained
from .region_map import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeConfig:
    """Tunables of the changes."""

    max_side: int = 960  # pixels of the longer side that frames are reduced to
    samples: int = 11  # frames that the background is made of
    min_frames: int = 4  # fewer frames do not tell a background from what covers it
    max_width: int = 46  # code values: where the range of the background is wider, none is known
    gap: int = 13  # pixels of the reduced frame: what lies between two changes that close changes too


_DEFAULT = ChangeConfig()


def changes(lumas: Sequence[Array], *, config: ChangeConfig = _DEFAULT) -> list[Array]:
    """Where frames are outside the range of the background, or no background is known.

    Args:
        lumas: Of frames before a still camera. [H, W] uint8 each.
        config: Tunables.

    Returns:
        [h, w] uint8 of 0 or 255 for each frame, reduced by one factor; nothing if there are too few frames.
    """
    if len(lumas) < config.min_frames:
        return []
    picks = np.linspace(0, len(lumas) - 1, min(len(lumas), config.samples)).round().astype(int)
    small = [reduce_luma(luma, config.max_side) for luma in lumas]
    reduced = [equalise(each, small[len(small) // 2]) for each in small]
    samples = [reduced[k] for k in picks]
    same = [np.eye(3)] * len(samples)
    background = background_range(samples, same, len(samples) // 2, [np.eye(3)])
    lower, upper = background.lower, background.upper
    unknown = cv2.subtract(upper, lower) > config.max_width
    return [_fill((Unexplained.of(each, lower, upper).excess > 0) | unknown, config.gap) for each in reduced]


def reduce_luma(luma: Array, max_side: int) -> Array:
    """A luma of at most `max_side` pixels on its longer side, with less noise."""
    scale = max(1.0, max(luma.shape) / max_side)
    size = tuple(max(1, round(side / scale)) for side in luma.shape[::-1])
    small = luma if scale == 1 else cv2.resize(luma, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (3, 3), 0))


def _fill(mask: Array, gap: int) -> Array:
    """Without single pixels, and with the gaps between the others closed."""
    binary = mask.astype(np.uint8) * 255
    opened = cv2.morphologyEx(binary, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (gap, gap))
    return np.asarray(cv2.morphologyEx(opened, cv2.MORPH_CLOSE, disc))
