"""When the numbered images of a folder were taken: their numbers count frames, and a gap is a gap in time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from math import gcd

_MAX_FRAMES_PER_IMAGE = (
    2  # frames per image, on average; where more are missing, numbers count something else
)


def frame_positions(names: Sequence[str]) -> tuple[list[int], str | None]:
    """The place of each image on an even grid of frames, from 0, and words about gaps.

    Names whose last number rises count frames (00001, 00002, 00004: number 3 is missing). Every second or
    tenth frame of a clip is an even grid of its own. Other names lie side by side.
    """
    consecutive = list(range(len(names)))
    numbers = [int(digits[-1]) if (digits := re.findall(r"\d+", _stem(name))) else -1 for name in names]
    steps = [b - a for a, b in pairwise(numbers)]
    if not steps or min(steps) <= 0 or min(numbers) < 0 or len(_name_patterns(names)) > 1:
        return consecutive, None
    step = gcd(*steps)
    positions = [(number - numbers[0]) // step for number in numbers]
    missing = positions[-1] + 1 - len(positions)
    if not missing:
        return positions, None
    if positions[-1] > _MAX_FRAMES_PER_IMAGE * len(positions):
        return consecutive, "its numbers leave out most frames: the images are taken as evenly spaced in time"
    return positions, f"{_describe_gaps(numbers, step)} missing: taken as a gap in time"


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


def _name_patterns(names: Sequence[str]) -> set[str]:
    """What stands around the last number of each name."""
    return {re.sub(r"\d+(?=\D*$)", "#", _stem(name)) for name in names}


def _describe_gaps(numbers: Sequence[int], step: int) -> str:
    """`numbers 3, 7 to 9 are`, in words."""
    gaps = [(a + step, b - step) for a, b in pairwise(numbers) if b - a > step]
    parts = [str(first) if first == last else f"{first} to {last}" for first, last in gaps]
    listed = ", ".join(parts[:5]) + (f" and {len(parts) - 5} more" if len(parts) > 5 else "")
    is_single = len(gaps) == 1 and gaps[0][0] == gaps[0][1]
    return f"number {listed} is" if is_single else f"numbers {listed} are"
