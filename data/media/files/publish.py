"""Writing results. An existing entry, or one that appears during the work, is never overwritten unasked.

`claim` checks before the work that a path may be written; `Claim.publish` checks again when the finished
result gets its name. Files are hard-linked into place and folders renamed: neither replaces an existing entry
on any file system. With `force`, only the entry that existed at the time of the claim is replaced.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from freezeframe.data.errors import UnwritableOutput

from .directories import create_parents, make_folder, replaced_path, restore_replaced
from .error_translation import translate_write_errors
from .fingerprint import FileState, file_state
from .preflight import check_kind, check_writable, reject_inputs, try_write


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A path that may be written, and the state of the entry to replace."""

    path: Path
    expected_state: FileState | None = None  # of the entry to replace; None: the path is free

    def publish(self, result: Path) -> None:
        """Give a finished file or folder its final name.

        Raises:
            UnwritableOutput: Another entry appeared in the meantime; the result lies beside it, under the
                name in the message.
        """
        with translate_write_errors(self.path):
            make_folder(self.path.parent)
            _sync(result)
            if self.expected_state is not None and file_state(self.path) == self.expected_state:
                if self._replace(result):
                    return
            elif _move(result, self.path):
                return
            other_path = _move_beside(result, self.path)
        raise UnwritableOutput(
            f"{self.path}: something else was written there while freezeframe worked, and was left alone;"
            f" the result is {other_path}"
        )

    def _replace(self, result: Path) -> bool:
        if not result.is_dir():
            result.replace(self.path)
            return True
        temp_path = replaced_path(result.parent)
        shutil.rmtree(temp_path, ignore_errors=True)
        self.path.rename(temp_path)
        try:
            # Under its temporary name no other program writes into it: its state is final.
            is_moved = file_state(temp_path) == self.expected_state and _move(result, self.path)
        except BaseException:
            restore_replaced(result.parent, self.path)
            raise
        if is_moved:
            shutil.rmtree(temp_path, ignore_errors=True)
        elif os.path.lexists(self.path):
            _move_beside(temp_path, self.path)
        else:
            temp_path.rename(self.path)
        return is_moved

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """A temporary path beside the output, published when the block ends without an error."""
        temp_path = self.path.with_name(f".{self.path.stem}.{os.getpid()}.freezeframe{self.path.suffix}")
        with translate_write_errors(self.path), create_parents(temp_path):
            try:
                yield temp_path
                self.publish(temp_path)
            finally:
                temp_path.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """Write a file atomically: to a temporary file, flushed to disk, then published."""
        with self.draft() as temp_path:
            temp_path.write_bytes(data)


def claim(
    path: Path, *, inputs: Iterable[Path] = (), force: bool = False, kind: str = "file", trial: bool = False
) -> Claim:
    """Check before any work that a result can and may be written.

    Args:
        path: Path of the result. Missing parent folders are created when the result is written.
        inputs: Files and folders that the command reads; the output must not be one of them or inside one.
        force: Replace the entry that exists now.
        kind: `file` or `folder`. An existing empty folder needs no `force`.
        trial: Write a small file there and remove it.

    Raises:
        UnwritableOutput: The path exists, is an input, or cannot be written.
    """
    reject_inputs(path, inputs)
    check_kind(path, kind)
    is_occupied = os.path.lexists(path) and not (kind == "folder" and not any(path.iterdir()))
    if is_occupied and not force:
        raise UnwritableOutput(f"{path}: exists already; choose another name or add --force")
    check_writable(path)
    if kind == "folder" and path.is_symlink():
        path = path.resolve()  # fill the target of the link, keep the link
    if trial:
        try_write(path)
    return Claim(path=path, expected_state=file_state(path) if is_occupied else None)


def write_atomic(data: bytes, path: Path) -> None:
    """Write an internal file (of a work folder or the cache) atomically, replacing an earlier one."""
    temp_path = path.with_name(f".{path.name}.{os.getpid()}.new")  # other processes share the cache
    with translate_write_errors(path):
        try:
            with temp_path.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temp_path.replace(path)
        finally:
            temp_path.unlink(missing_ok=True)


def _sync(result: Path) -> None:
    if result.is_file():
        with result.open("rb") as file:
            os.fsync(file.fileno())


def _move(result: Path, path: Path) -> bool:
    """Rename `result` to `path` unless that exists; False if it does."""
    move: Callable[[Path, Path], None] = _rename_folder if result.is_dir() else _link
    try:
        move(result, path)
    except OSError:
        if _is_occupied(path):
            return False
        raise
    return True


def _rename_folder(result: Path, path: Path) -> None:
    if path.is_symlink():
        raise FileExistsError(path)
    result.rename(path)  # POSIX: fails unless `path` is free or an empty folder


def _link(result: Path, path: Path) -> None:
    try:
        os.link(result, path)
    except OSError:
        if os.path.lexists(path):
            raise
        result.rename(path)  # a file system without hard links
    else:
        result.unlink()


def _is_occupied(path: Path) -> bool:
    return os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir()))


def _move_beside(result: Path, path: Path) -> Path:
    names = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in count(1))
    return next(name for name in names if not os.path.lexists(name) and _move(result, name))
