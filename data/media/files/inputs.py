"""What may be read at all."""

from __future__ import annotations

from pathlib import Path

from freezeframe.data.errors import UnreadableMedia


def reject_pipe(path: Path) -> None:
    """A pipe may never give anything, and can be read once; media are read several times."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UnreadableMedia(f"{path}: is a pipe or a device; save what it gives to a file, and name that")
