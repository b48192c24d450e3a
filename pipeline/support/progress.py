"""How far a job has come, told to whoever draws a bar; and what it has to say on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Advance(Protocol):
    """Told of work done. A stage begins with what was there before; then comes what was done since."""

    def __call__(self, done: int, total: int | None, stage: str = "", left: float | None = None, /) -> None:
        """`done` of `total` (None: unknown) frames; or of the parts of `stage`, which is named in words.

        `left` seconds remain, where the caller knows better than an even rate tells.
        """


Tell = Callable[[str], None]  # takes a sentence for the user


def quiet(_done: int, _total: int | None, _stage: str = "", _left: float | None = None, /) -> None:
    """The progress of who wants none."""


def silent(_sentence: str, /) -> None:
    """Says nothing to nobody."""
