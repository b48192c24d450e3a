"""Text for a terminal: what would steer it is shown instead."""

from __future__ import annotations

import re

# C0 but tab and line feed, DEL, C1, what turns the direction of writing (UAX 9), and bytes that are no UTF-8.
_CONTROL_CHARACTERS = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069\\ud800-\\udfff]"
)


def printable(text: str) -> str:
    """The text with control characters, and bytes that are no UTF-8, as escapes: names come from anywhere."""
    return _CONTROL_CHARACTERS.sub(lambda match: ascii(match.group())[1:-1], text)
