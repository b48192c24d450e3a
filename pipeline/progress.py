"""How far a job has come, told to whoever draws a bar."""

from __future__ import annotations

from collections.abc import Callable

Advance = Callable[[int, int | None], None]  # frames done since the last call; frames in all, None: unknown


def quiet(_done: int, _total: int | None) -> None:
    """The progress of who wants none."""
