"""How far a job has come, told to whoever draws a bar; and what it has to say on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class ProgressCallback(Protocol):
    """Told of work done. A stage begins with what was there before; then comes what was done since."""

    def __call__(
        self, completed: int, total: int | None, stage: str = "", eta: float | None = None, /
    ) -> None:
        """`completed` of `total` (None: unknown) frames; or of the parts of `stage`, which is named in words.

        `eta` seconds remain, where the caller knows better than an even rate tells.
        """


class FitProgress(Protocol):
    """Progress of an iterative fit."""

    @property
    def progress(self) -> float:
        """Completed fraction, [0, 1]."""


MessageCallback = Callable[[str], None]  # takes a sentence for the user


def null_progress(
    _completed: int, _total: int | None, _stage: str = "", _eta: float | None = None, /
) -> None:
    """The progress of who wants none."""


def null_message(_sentence: str, /) -> None:
    """Says nothing to nobody."""
