"""The work folder of an output: locked, and reused only by a rerun of the same job."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from .directories import remove, remove_work_dir, work_dir
from .lock import NAME as LOCK
from .lock import Lock
from .publish import write_atomic

_JOB = "job.json"
NAMES = frozenset({_JOB, LOCK})  # files that belong to the folder itself


class WorkFolder:
    """Holds the lock of an output's work folder, which is created if it is missing."""

    def __init__(self, output: Path, identity: str) -> None:
        """Lock the folder, and remove the files of another job.

        Args:
            output: The output; the folder lies beside it.
            identity: A hash of everything that changes the files of the job.

        Raises:
            UnwritableOutput: Another run holds the lock.
        """
        self.path = work_dir(output)
        self._lock = Lock(self.path, output)
        self.is_resumed = self._identity() == identity  # the files of the same job are there
        if not self.is_resumed:
            self.remove_others()
            write_atomic(json.dumps({"identity": identity}).encode(), self.path / _JOB)

    @property
    def held(self) -> bool:
        return self._lock.held

    def release(self, *, keep: bool) -> None:
        """Release the lock, and remove the folder unless `keep` is set."""
        if self._lock.held and not keep:  # else another run may own the folder
            remove_work_dir(self.path)
        self._lock.release()

    def remove_others(self, names: frozenset[str] = frozenset()) -> None:
        """Remove all entries except `names`."""
        for entry in self.path.iterdir():
            if entry.name not in names | NAMES:
                remove(entry)

    def _identity(self) -> str | None:
        with suppress(OSError, ValueError, TypeError, KeyError):
            return str(json.loads((self.path / _JOB).read_text())["identity"])
        return None
