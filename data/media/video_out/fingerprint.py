"""What is read: told from another file, and from its own later state."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from freezeframe.data.errors import UnreadableMedia
from freezeframe.data.media.video_in.source import VideoSource
from freezeframe.data.types import Source

from .segment_store import fingerprint


def source_state(source: Source) -> str:
    """Changes with the files that are read, without reading them whole."""
    if isinstance(source, VideoSource):
        return fingerprint(source.info.path)
    fingerprint_method = getattr(source, "fingerprint", None)
    return fingerprint_method() if fingerprint_method else f"{source.name} {source.count} {source.rate}"


def check_unchanged(source: Source, expected_state: str) -> None:
    """What was read before a change and after it must not end in one result."""
    _check_state(source.name, lambda: source_state(source), expected_state)


def unchanged_check(*files: Path) -> Callable[[], None]:
    """A check that all files are what they are now; it raises UnreadableMedia where one is not."""
    expected_state = [(file, fingerprint(file)) for file in files if file.is_file()]

    def check() -> None:
        for file, state in expected_state:
            _check_state(str(file), partial(fingerprint, file), state)

    return check


def _check_state(name: str, state: Callable[[], str], expected_state: str) -> None:
    try:
        is_same = state() == expected_state
    except OSError:
        is_same = False
    if not is_same:
        raise UnreadableMedia(
            f"{name}: changed while it was read; nothing was written: rerun when it no longer changes"
        )
