"""Blurred regions of a clip as text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from freezeframe.pipeline.support.text.table import align_columns
from freezeframe.pipeline.support.text.units import pluralize

from .regions import ProbedRegion

MAX_ROWS = 8  # regions that are listed one by one


def blurred_regions(regions: Sequence[ProbedRegion]) -> list[ProbedRegion]:
    """Those that `deblur_video` would process."""
    return [region for region in regions if region.blurred]


def blurred_objects(regions: Sequence[ProbedRegion]) -> list[ProbedRegion]:
    """The small fast movers among them."""
    return [region for region in blurred_regions(regions) if region.track is not None]


def object_sentence(regions: Sequence[ProbedRegion]) -> str:
    """`3 fast objects in frames 0 to 71, blurred up to 14 px`, of at least one small fast mover."""
    first, last = min(region.first for region in regions), max(region.last for region in regions)
    longest = max(region.blur_px for region in regions)
    return (
        f"{pluralize(len(regions), 'fast object')} in frames {first} to {last},"
        f" blurred up to {longest:.{0 if longest >= 10 else 1}f} px"
    )


def format_regions(regions: Sequence[ProbedRegion], *, rotated_90: bool) -> list[str]:
    """One row per region, the first `MAX_ROWS` of them: what moves, where and how far, and the method."""
    header = ("region", "moves", "frames", "position", "size", "blur px", "direction", "method")
    rows = [
        (
            str(number),
            region.mover,
            f"{region.first}-{region.last}",
            f"{region.box.left}, {region.box.top}",
            f"{region.box.width}x{region.box.height}",
            f"{region.blur_px:.1f}",
            slope_name(region.direction, rotated_90=rotated_90),
            region.method,
        )
        for number, region in enumerate(regions[:MAX_ROWS], start=1)
    ]
    more = len(regions) - len(rows)
    lines = [f"  {line}" for line in align_columns([header, *rows], "><>>>><<")]
    return [*lines, f"  and {more} more"] if more else lines


def slope_name(angle: float, *, rotated_90: bool) -> str:
    """`horizontal`, `vertical` or `diagonal`, in the picture as played; `angle` in radians."""
    slope = abs(math.degrees(math.atan(math.tan(angle))))  # 0 along rows, 90 along columns
    slope = 90 - slope if rotated_90 else slope
    return "horizontal" if slope < 30 else "vertical" if slope > 60 else "diagonal"
