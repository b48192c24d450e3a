"""Numbers as a person says them."""

from __future__ import annotations


def about(seconds: float) -> str:
    """A time that is not known better: `about 14 min`."""
    minutes = round(seconds / 60)
    if seconds < 50:
        return "less than a minute"
    return f"about {max(1, minutes)} min" if minutes < 90 else f"about {seconds / 3600:.1f} h"


def counted(count: int, noun: str) -> str:
    """`1 shot`, `2 shots`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def clock(seconds: float) -> str:
    """`02:34`, `1:02:34`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute:02d}:{second:02d}"
