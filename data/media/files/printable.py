"""Text that is safe to print: control characters are escaped."""

from __future__ import annotations

import re

# C0 except tab and line feed, DEL, C1, bidirectional controls (UAX 9), and bytes that are not UTF-8.
_CONTROL_CHARACTERS = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069\\ud800-\\udfff]"
)


def printable(text: str) -> str:
    """Escape control characters and bytes that are not UTF-8: file names are untrusted."""
    return _CONTROL_CHARACTERS.sub(lambda match: ascii(match.group())[1:-1], text)
