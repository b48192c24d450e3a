"""Times of numbered images: the numbers count frames, and a gap in them is a gap in time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from math import gcd

_MAX_FRAMES_PER_IMAGE = 2  # average; above it, the numbers do not count frames


def frame_positions(names: Sequence[str]) -> tuple[list[int], str | None]:
    """The frame index of each image, from 0, and a note about gaps.

    An increasing last number in the names counts frames (00001, 00002, 00004: number 3 is missing). A
    constant step, such as every tenth frame, is divided out. Images with other names are consecutive.
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
        return consecutive, "most numbers are missing: the images are assumed to be evenly spaced in time"
    return positions, f"{_describe_gaps(numbers, step)} missing: assumed to be a gap in time"


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


def _name_patterns(names: Sequence[str]) -> set[str]:
    """The names with their last number replaced."""
    return {re.sub(r"\d+(?=\D*$)", "#", _stem(name)) for name in names}


def _describe_gaps(numbers: Sequence[int], step: int) -> str:
    """Text such as `numbers 3, 7 to 9 are`."""
    gaps = [(a + step, b - step) for a, b in pairwise(numbers) if b - a > step]
    parts = [str(first) if first == last else f"{first} to {last}" for first, last in gaps]
    listed = ", ".join(parts[:5]) + (f" and {len(parts) - 5} more" if len(parts) > 5 else "")
    is_single = len(gaps) == 1 and gaps[0][0] == gaps[0][1]
    return f"number {listed} is" if is_single else f"numbers {listed} are"
