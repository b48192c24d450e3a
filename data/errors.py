"""Every error that freezeframe raises on purpose.

    FreezeframeError            the text is one sentence for the user; the CLI prints it and exits with 2
    ├── UnreadableMedia         the input cannot be read as asked
    ├── UnwritableOutput        the output cannot be written as asked; nothing was changed
    ├── NoScene                 the footage cannot be rebuilt as one scene; frame by frame it still can
    └── MissingExtra            an optional package is needed

Programming errors stay ValueError and TypeError.
"""

from __future__ import annotations


class FreezeframeError(Exception):
    """Names the file, the place and the cure."""


class UnreadableMedia(FreezeframeError):
    """The input is not what it should be: not a video, damaged, empty, of changing size."""


class UnwritableOutput(FreezeframeError):
    """The output exists, is the input, has no room, or is of a kind that cannot hold what it must."""


class NoScene(FreezeframeError):
    """What was filmed cannot be rebuilt as one static scene, and why."""


class MissingExtra(FreezeframeError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package} (extra `{extra}`); run: pip install {package}")
