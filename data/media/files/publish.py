"""Where results go. What was there before, or came while we worked, is never overwritten unasked.

`claim` decides before the work whether a path may be written; a `Claim` asks again when the finished result
gets its name. Files are linked into place and folders renamed, which no file system does over something that
is there. Where replacing was allowed, only what stood there when the work began is replaced.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from errno import EDQUOT, EFBIG, ENOSPC
from itertools import combinations, count
from pathlib import Path

from freezeframe.data.errors import UnwritableOutput

FileState = tuple[object, ...]

_TEST_WRITE_BYTES = 1 << 12  # bytes that a place must have room for before any work


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A path that may be written, and what stood there when that was decided."""

    path: Path
    expected_state: FileState | None = None  # of what may be replaced; None: nothing is there

    def publish(self, result: Path) -> None:
        """Give a finished file or folder its name.

        Raises:
            UnwritableOutput: Something else is there by now; the result lies beside it, under the name told.
        """
        with translate_os_errors(self.path):
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
            # Nothing can come into it any more under its old name: what it holds now is final.
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
        """A path beside the output to write a file to; it gets its name when the block ends without error."""
        temp_path = self.path.with_name(f".{self.path.stem}.{os.getpid()}.freezeframe{self.path.suffix}")
        with translate_os_errors(self.path), create_parents(temp_path):
            try:
                yield temp_path
                self.publish(temp_path)
            finally:
                temp_path.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """All or nothing: written aside, forced to disk, then published."""
        with self.draft() as temp_path:
            temp_path.write_bytes(data)


def claim(
    path: Path, *, inputs: Iterable[Path] = (), force: bool = False, kind: str = "file", trial: bool = False
) -> Claim:
    """Stop before any work where a result cannot or must not be written.

    Args:
        path: Of the result. Folders that lead there are made when they are needed.
        inputs: What the command reads: neither they nor anything in them may be written.
        force: Replace what is there now.
        kind: `file` or `folder`. An empty folder may always be filled.
        trial: Write a little there now, and take it away again.
    """
    reject_inputs(path, inputs)
    _check_kind(path, kind)
    is_occupied = os.path.lexists(path) and not (kind == "folder" and not any(path.iterdir()))
    if is_occupied and not force:
        raise UnwritableOutput(f"{path}: exists already; choose another name or add --force")
    check_writable(path)
    if kind == "folder" and path.is_symlink():
        path = path.resolve()  # what the link points to is filled, the link stays
    if trial:
        _test_write(path)
    return Claim(path=path, expected_state=file_state(path) if is_occupied else None)


def reject_inputs(path: Path, inputs: Iterable[Path]) -> None:
    """Nothing that is read is written, by whatever name."""
    resolved = path.resolve()
    for input_path in inputs:
        origin = input_path.resolve()
        if resolved == origin or _is_same_file(path, input_path):
            raise UnwritableOutput(f"{path}: is the input itself; name another output")
        if not input_path.is_dir():
            continue
        if origin in resolved.parents:
            raise UnwritableOutput(f"{path}: lies inside the input folder; name one outside it")
        if path.is_file() and any(_is_same_file(path, entry) for entry in input_path.iterdir()):
            raise UnwritableOutput(f"{path}: is one of the input's images; name another output")


def check_writable(path: Path) -> None:
    """A folder that cannot be made or may not be written to is learned now."""
    parent = path.absolute().parent
    ancestor = next(folder for folder in (parent, *parent.parents) if os.path.lexists(folder))
    display_path = path.parent if ancestor == parent else ancestor
    if not ancestor.is_dir():
        raise UnwritableOutput(f"{path}: {display_path} is not a folder; choose another place")
    if not os.access(ancestor, os.W_OK | os.X_OK):
        raise UnwritableOutput(f"{path}: the folder {display_path} may not be written to; choose another")


def check_collisions(outputs: Mapping[str, Path | None]) -> None:
    """Two results of one command must not be one file, nor one lie inside another.

    Args:
        outputs: By what the user calls them. Names that differ in case only are one on many disks.
    """
    resolved_outputs = [
        (name, path, _casefold_path(path)) for name, path in outputs.items() if path is not None
    ]
    for (first, first_path, a), (second, second_path, b) in combinations(resolved_outputs, 2):
        if a == b or _is_same_file(first_path, second_path):
            raise UnwritableOutput(
                f"{second_path}: is {first} and {second} at once; name two different files"
            )
        if a in b.parents or b in a.parents:
            inner, outer = (second, first) if a in b.parents else (first, second)
            raise UnwritableOutput(f"{outputs[inner]}: {inner} lies inside {outer}; name a place outside it")


def make_folder(folder: Path) -> list[Path]:
    """Make a folder and those that lead there; those that were made, innermost first."""
    missing: list[Path] = []
    for parent in (folder, *folder.parents):
        if parent.exists():
            break
        missing.append(parent)
    folder.mkdir(parents=True, exist_ok=True)
    return missing


@contextmanager
def create_parents(path: Path) -> Iterator[list[Path]]:
    """Make the folders that lead to `path`; they go again where the block fails."""
    new_folders = make_folder(path.parent)
    try:
        yield new_folders
    except BaseException:
        remove_empty(new_folders)
        raise


def remove_empty(folders: Iterable[Path]) -> None:
    """Take away folders that were made for a result which never came."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def remove(path: Path) -> None:
    """Take away a file or a folder of our own."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_work_dir(folder: Path) -> None:
    """Take away the folder of a job, whose lock we hold: at once, so that no other run sees half of it."""
    trash = folder.with_name(f"{folder.name}.{os.getpid()}")
    try:
        folder.rename(trash)
    except OSError:  # a name too long, say
        trash = folder
    shutil.rmtree(trash, ignore_errors=True)


def save(data: bytes, path: Path) -> None:
    """Write a file of freezeframe's own (a job's, its cache's), all or nothing, over an earlier one."""
    temp_path = path.with_name(f".{path.name}.{os.getpid()}.new")  # other processes share a cache
    with translate_os_errors(path):
        try:
            with temp_path.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temp_path.replace(path)
        finally:
            temp_path.unlink(missing_ok=True)


def replaced_path(work_dir: Path) -> Path:
    """Where a folder that is being replaced waits until its successor has its name."""
    return work_dir / "replaced"


def restore_replaced(work_dir: Path, path: Path) -> None:
    """Give an earlier folder its name again where its successor never got it: a full disk, a power cut."""
    if replaced_path(work_dir).exists() and not os.path.lexists(path):
        replaced_path(work_dir).rename(path)


def file_state(path: Path) -> FileState | None:
    """Tells a file, or a folder with all that is in it, from another and from its own later state."""
    try:
        status = path.lstat()
    except OSError:
        return None
    if not path.is_dir() or path.is_symlink():
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
    entries = sorted((entry.name, file_state(entry)) for entry in path.iterdir())
    return status.st_dev, status.st_ino, tuple(entries)


@contextmanager
def translate_os_errors(path: Path) -> Iterator[None]:
    """Turn what the system says about a failed write into a sentence about the output."""
    try:
        yield
    except OSError as error:
        if error.errno in (ENOSPC, EDQUOT, EFBIG):
            raise UnwritableOutput(
                f"{path}: no space left on the disk; free some and rerun: what is finished is kept"
            ) from error
        raise UnwritableOutput(f"{path}: cannot be written ({error.strerror or error})") from error


def _check_kind(path: Path, kind: str) -> None:
    if not path.name:
        raise UnwritableOutput(f"{path}: is a folder; name a {kind} in it")
    if kind == "folder" and os.path.lexists(path) and not path.is_dir():
        raise UnwritableOutput(f"{path}: is a file; name a folder, or a video by its suffix")
    if kind == "file" and path.is_dir():
        raise UnwritableOutput(f"{path}: is a folder; name a file")
    if kind == "file" and path.exists() and not path.is_file():
        raise UnwritableOutput(f"{path}: is not a regular file; choose another name")


def _test_write(path: Path) -> None:
    temp_path = path.with_name(f".{path.name}.{os.getpid()}.freezeframe")
    with translate_os_errors(path), create_parents(path) as new_folders:
        try:
            temp_path.write_bytes(bytes(_TEST_WRITE_BYTES))
            _sync(temp_path)
        finally:
            temp_path.unlink(missing_ok=True)
        remove_empty(new_folders)


def _is_same_file(one: Path, other_path: Path) -> bool:
    """Whether both are one file: by another path, a link, or on a disk that ignores case."""
    with suppress(OSError):
        return one.samefile(other_path)
    return False


def _casefold_path(path: Path) -> Path:
    return Path(str(path.resolve()).casefold())


def _sync(result: Path) -> None:
    if result.is_file():
        with result.open("rb") as file:
            os.fsync(file.fileno())


def _move(result: Path, path: Path) -> bool:
    """Give `result` the name `path` unless something has it; False where something has."""
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
    result.rename(path)  # POSIX: onto nothing or an empty folder only


def _link(result: Path, path: Path) -> None:
    try:
        os.link(result, path)
    except OSError:
        if os.path.lexists(path):
            raise
        result.rename(path)  # a disk without hard links
    else:
        result.unlink()


def _is_occupied(path: Path) -> bool:
    return os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir()))


def _move_beside(result: Path, path: Path) -> Path:
    names = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in count(1))
    return next(name for name in names if not os.path.lexists(name) and _move(result, name))
