"""Numbers, durations and blur thresholds as text."""

from __future__ import annotations

import math
from collections.abc import Sequence

LIMIT_MARGIN_PX = 0.25  # pixels between a suggested threshold and the blur that should exceed it
VISIBLE_BLUR_PX = 1.0  # pixels; shorter blur cannot be corrected


def format_duration(seconds: float) -> str:
    """An estimated time: `about 14 min`."""
    minutes = round(seconds / 60)
    if seconds < 50:
        return "less than a minute"
    return f"about {max(1, minutes)} min" if minutes < 90 else f"about {seconds / 3600:.1f} h"


def pluralize(count: int, noun: str) -> str:
    """`1 shot`, `2 shots`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def suggest_min_blur(blurs: Sequence[float]) -> tuple[float, int] | None:
    """A --min-blur somewhat below the median visible blur, and the number of frames that exceed it.

    Args:
        blurs: Blur length of each frame, pixels.

    Returns:
        None if no blur is longer than a pixel.
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
