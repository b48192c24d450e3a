"""What is read: told from another file, and from its own later state."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from freezeframe.data.errors import UnreadableMedia
from freezeframe.data.media.video_in.source import VideoSource
from freezeframe.data.types import Source

from .segment_store import fingerprint


def state_of(source: Source) -> str:
    """Changes with the files that are read, without reading them whole."""
    if isinstance(source, VideoSource):
        return fingerprint(source.info.path)
    tell = getattr(source, "fingerprint", None)
    return tell() if tell else f"{source.name} {source.count} {source.rate}"


def refuse_changed(source: Source, before: str) -> None:
    """What was read before a change and after it must not end in one result."""
    _compare(source.name, lambda: state_of(source), before)


def unchanged(*files: Path) -> Callable[[], None]:
    """A check that all files are what they are now; it raises UnreadableMedia where one is not."""
    before = [(file, fingerprint(file)) for file in files if file.is_file()]

    def check() -> None:
        for file, state in before:
            _compare(str(file), partial(fingerprint, file), state)

    return check


def _compare(name: str, state: Callable[[], str], before: str) -> None:
    try:
        same = state() == before
    except OSError:
        same = False
    if not same:
        raise UnreadableMedia(
            f"{name}: changed while it was read; nothing was written: rerun when it no longer changes"
        )
