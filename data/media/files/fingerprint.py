"""Detection of changed files, without reading them whole."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Protocol

from freezeframe.data.errors import UnreadableMedia

FileState = tuple[object, ...]

_SAMPLE_BYTES = 1 << 20  # bytes at either end of a file that enter its fingerprint


class Fingerprinted(Protocol):
    """The part of `Source` that is needed here, without the import of torch."""

    @property
    def name(self) -> str: ...

    def fingerprint(self) -> str: ...


def fingerprint(path: Path) -> str:
    """A hash of size, modification time, first and last bytes of a file."""
    status = path.stat()
    digest = hashlib.sha256(f"{status.st_size} {status.st_mtime_ns}".encode())
    with path.open("rb") as file:
        digest.update(file.read(_SAMPLE_BYTES))
        file.seek(max(0, status.st_size - _SAMPLE_BYTES))
        digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def fingerprint_names(files: Iterable[Path], *, prefix: str) -> str:
    """A hash of `prefix` and of the names, sizes and modification times of many files."""
    digest = hashlib.sha256(prefix.encode())
    for file in files:
        status = file.stat()
        digest.update(f"{file.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def file_state(path: Path) -> FileState | None:
    """Device, inode, size and modification time of a file, or of all entries of a folder; None if absent."""
    try:
        status = path.lstat()
    except OSError:
        return None
    if not path.is_dir() or path.is_symlink():
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
    entries = sorted((entry.name, file_state(entry)) for entry in path.iterdir())
    return status.st_dev, status.st_ino, tuple(entries)


def check_unchanged(source: Fingerprinted, expected: str) -> None:
    """Raise if the fingerprint of a source differs: one result must not mix two states of its input."""
    _compare(source.name, source.fingerprint, expected)


def unchanged_check(*files: Path) -> Callable[[], None]:
    """A function that raises UnreadableMedia if one of the files has changed since this call."""
    expected = [(file, fingerprint(file)) for file in files if file.is_file()]

    def check() -> None:
        for file, state in expected:
            _compare(str(file), partial(fingerprint, file), state)

    return check


def _compare(name: str, state: Callable[[], str], expected: str) -> None:
    try:
        is_same = state() == expected
    except OSError:
        is_same = False
    if not is_same:
        raise UnreadableMedia(
            f"{name}: changed while it was read; nothing was written: rerun when it no longer changes"
        )
