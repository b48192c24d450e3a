"""A lock file for one run at a time on one output; the system releases it when its owner dies."""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import dataclass
from datetime import datetime
from io import TextIOWrapper
from pathlib import Path

from freezeframe.data.errors import UnwritableOutput

try:
    import fcntl
except ImportError:  # a system without POSIX locks
    fcntl = None  # type: ignore[assignment]

NAME = "lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class LockConfig:
    """Waiting for a lock."""

    timeout_s: float = 5.0  # seconds; a run that was just stopped needs some to exit
    poll_interval_s: float = 0.05  # seconds


DEFAULT_LOCK = LockConfig()


class Lock:
    """Held from construction until `release`, or until this process ends in any way."""

    def __init__(self, folder: Path, output: Path, *, config: LockConfig = DEFAULT_LOCK) -> None:
        """Create `folder` if it is missing, and lock it.

        Raises:
            UnwritableOutput: Another run holds the lock; the message names it.
        """
        deadline = time.monotonic() + config.timeout_s
        while (file := _try_lock(folder)) is None:
            if time.monotonic() >= deadline:
                owner = _describe_owner(folder)
                raise UnwritableOutput(
                    f"{output}: another run is writing it{owner}; wait for it, or stop it and rerun"
                )
            time.sleep(config.poll_interval_s)
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
    """The locked file; None if another process holds the lock."""
    folder.mkdir(exist_ok=True)
    try:
        file = (folder / NAME).open("a")
    except FileNotFoundError:  # its last owner has just removed the folder
        return None
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(file.fileno()), (folder / NAME).stat()):
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:  # a file system without locks
        return file
    file.close()
    return None


def _describe_owner(folder: Path) -> str:
    try:
        owner = json.loads((folder / NAME).read_text())
    except (OSError, ValueError):
        return ""
    return f" (process {owner['pid']} on {owner['host']}, since {owner['since']})"
