"""Callbacks for progress and messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class ProgressCallback(Protocol):
    """Receives the work done since the last call. The first call of a stage holds what was done before."""

    def __call__(
        self, completed: int, total: int | None, stage: str = "", eta: float | None = None, /
    ) -> None:
        """Add `completed` of `total` frames, or of the units of `stage`.

        Args:
            completed: Units since the last call.
            total: Units in all; None if unknown.
            stage: Label of the stage; empty while frames are processed.
            eta: Seconds that remain; None to extrapolate the rate so far.
        """


class FitProgress(Protocol):
    """Progress of an iterative fit."""

    @property
    def progress(self) -> float:
        """Completed fraction, [0, 1]."""


MessageCallback = Callable[[str], None]  # receives one sentence for the user


def null_progress(
    _completed: int, _total: int | None, _stage: str = "", _eta: float | None = None, /
) -> None:
    """Ignore progress."""


def null_message(_sentence: str, /) -> None:
    """Ignore messages."""
