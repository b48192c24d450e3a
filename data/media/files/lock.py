"""One run at a time on one output: a lock that the system gives back when its holder dies."""

from __future__ import annotations

import json
import os
import platform
import time
from datetime import datetime
from io import TextIOWrapper
from pathlib import Path

from freezeframe.data.errors import UnwritableOutput

try:
    import fcntl
except ImportError:  # no such lock on this system
    fcntl = None  # type: ignore[assignment]

NAME = "lock"
TIMEOUT_S = 5.0  # seconds for a run that was just stopped to go
_POLL_INTERVAL_S = 0.05


class Lock:
    """Held from the start until `release`, or until this process ends in whatever way."""

    def __init__(self, folder: Path, output: Path) -> None:
        """Make `folder` if need be and lock it.

        Raises:
            UnwritableOutput: Another run holds it; says which.
        """
        deadline = time.monotonic() + TIMEOUT_S
        while (file := _try_lock(folder)) is None:
            if time.monotonic() >= deadline:
                raise UnwritableOutput(
                    f"{output}: another run is writing it{_describe_owner(folder)}; wait for it, or stop it and rerun"
                )
            time.sleep(_POLL_INTERVAL_S)
        self._file = file
        self._write_owner()

    @property
    def held(self) -> bool:
        return not self._file.closed

    def release(self) -> None:
        self._file.close()

    def _write_owner(self) -> None:
        since = datetime.now().astimezone().isoformat(timespec="seconds")
        self._file.truncate(0)
        json.dump({"pid": os.getpid(), "host": platform.node(), "since": since}, self._file)
        self._file.flush()


def _try_lock(folder: Path) -> TextIOWrapper | None:
    """The file of a lock that is ours now; None where it is another's."""
    folder.mkdir(exist_ok=True)
    try:
        file = (folder / NAME).open("a")
    except FileNotFoundError:  # its last holder has just taken the folder away
        return None
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(file.fileno()), (folder / NAME).stat()):
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:  # a disk that knows no locks
        return file
    file.close()
    return None


def _describe_owner(folder: Path) -> str:
    try:
        owner = json.loads((folder / NAME).read_text())
    except (OSError, ValueError):
        return ""
    return f" (process {owner['pid']} on {owner['host']}, since {owner['since']})"
