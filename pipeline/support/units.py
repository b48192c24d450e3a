"""Numbers as a person says them."""

from __future__ import annotations

import math
from collections.abc import Sequence

LIMIT_MARGIN_PX = 0.25  # pixels by which a limit stays below what it is to let through
VISIBLE_BLUR_PX = 1.0  # pixels; shorter blur cannot be undone


def format_duration(seconds: float) -> str:
    """A time that is not known better: `about 14 min`."""
    minutes = round(seconds / 60)
    if seconds < 50:
        return "less than a minute"
    return f"about {max(1, minutes)} min" if minutes < 90 else f"about {seconds / 3600:.1f} h"


def pluralize(count: int, noun: str) -> str:
    """`1 shot`, `2 shots`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def suggest_min_blur(blurs: Sequence[float]) -> tuple[float, int] | None:
    """A --min-blur that blurs of these lengths would pass, somewhat below the middle one, and how many.

    None where there is nothing that could be seen: blur of less than a pixel.
    """
    visible = sorted(blur for blur in blurs if blur > VISIBLE_BLUR_PX)
    if not visible:
        return None
    limit = max(VISIBLE_BLUR_PX, math.floor(2 * (visible[len(visible) // 2] - LIMIT_MARGIN_PX)) / 2)
    return limit, sum(blur > limit for blur in visible)


def format_clock(seconds: float) -> str:
    """`02:34`, `1:02:34`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute:02d}:{second:02d}"
