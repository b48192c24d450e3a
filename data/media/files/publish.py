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

Stamp = tuple[object, ...]

_TRIAL = 1 << 12  # bytes that a place must have room for before any work


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A path that may be written, and what stood there when that was decided."""

    path: Path
    before: Stamp | None = None  # of what may be replaced; None: nothing is there

    def publish(self, finished: Path) -> None:
        """Give a finished file or folder its name.

        Raises:
            UnwritableOutput: Something else is there by now; the result lies beside it, under the name told.
        """
        with writing(self.path):
            make_folder(self.path.parent)
            _sync(finished)
            if self.before is not None and stamp_of(self.path) == self.before:
                if self._replace(finished):
                    return
            elif _move(finished, self.path):
                return
            other = _move_beside(finished, self.path)
        raise UnwritableOutput(
            f"{self.path}: something else was written there while freezeframe worked, and was left alone;"
            f" the result is {other}"
        )

    def _replace(self, finished: Path) -> bool:
        if not finished.is_dir():
            finished.replace(self.path)
            return True
        aside = replaced_in(finished.parent)
        shutil.rmtree(aside, ignore_errors=True)
        self.path.rename(aside)
        try:
            # Nothing can come into it any more under its old name: what it holds now is final.
            moved = stamp_of(aside) == self.before and _move(finished, self.path)
        except BaseException:
            put_back(finished.parent, self.path)
            raise
        if moved:
            shutil.rmtree(aside, ignore_errors=True)
        elif os.path.lexists(self.path):
            _move_beside(aside, self.path)
        else:
            aside.rename(self.path)
        return moved

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """A path beside the output to write a file to; it gets its name when the block ends without error."""
        aside = self.path.with_name(f".{self.path.stem}.{os.getpid()}.freezeframe{self.path.suffix}")
        with writing(self.path), made_for(aside):
            try:
                yield aside
                self.publish(aside)
            finally:
                aside.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """All or nothing: written aside, forced to disk, then published."""
        with self.draft() as aside:
            aside.write_bytes(data)


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
    refuse_inputs(path, inputs)
    _refuse_kind(path, kind)
    there = os.path.lexists(path) and not (kind == "folder" and not any(path.iterdir()))
    if there and not force:
        raise UnwritableOutput(f"{path}: exists already; choose another name or add --force")
    refuse_place(path)
    if kind == "folder" and path.is_symlink():
        path = path.resolve()  # what the link points to is filled, the link stays
    if trial:
        _try(path)
    return Claim(path=path, before=stamp_of(path) if there else None)


def refuse_inputs(path: Path, inputs: Iterable[Path]) -> None:
    """Nothing that is read is written, by whatever name."""
    place = path.resolve()
    for given in inputs:
        origin = given.resolve()
        if place == origin or _same(path, given):
            raise UnwritableOutput(f"{path}: is the input itself; name another output")
        if not given.is_dir():
            continue
        if origin in place.parents:
            raise UnwritableOutput(f"{path}: lies inside the input folder; name one outside it")
        if path.is_file() and any(_same(path, each) for each in given.iterdir()):
            raise UnwritableOutput(f"{path}: is one of the input's images; name another output")


def refuse_place(path: Path) -> None:
    """A folder that cannot be made or may not be written to is learned now."""
    parent = path.absolute().parent
    above = next(place for place in (parent, *parent.parents) if os.path.lexists(place))
    shown = path.parent if above == parent else above
    if not above.is_dir():
        raise UnwritableOutput(f"{path}: {shown} is not a folder; choose another place")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UnwritableOutput(f"{path}: the folder {shown} may not be written to; choose another")


def refuse_collisions(outputs: Mapping[str, Path | None]) -> None:
    """Two results of one command must not be one file, nor one lie inside another.

    Args:
        outputs: By what the user calls them. Names that differ in case only are one on many disks.
    """
    places = [(name, path, _folded(path)) for name, path in outputs.items() if path is not None]
    for (first, one, a), (second, other, b) in combinations(places, 2):
        if a == b or _same(one, other):
            raise UnwritableOutput(f"{other}: is {first} and {second} at once; name two different files")
        if a in b.parents or b in a.parents:
            inner, outer = (second, first) if a in b.parents else (first, second)
            raise UnwritableOutput(f"{outputs[inner]}: {inner} lies inside {outer}; name a place outside it")


def make_folder(folder: Path) -> list[Path]:
    """Make a folder and those that lead there; those that were made, innermost first."""
    missing: list[Path] = []
    for place in (folder, *folder.parents):
        if place.exists():
            break
        missing.append(place)
    folder.mkdir(parents=True, exist_ok=True)
    return missing


@contextmanager
def made_for(path: Path) -> Iterator[list[Path]]:
    """Make the folders that lead to `path`; they go again where the block fails."""
    made = make_folder(path.parent)
    try:
        yield made
    except BaseException:
        remove_empty(made)
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


def remove_job(folder: Path) -> None:
    """Take away the folder of a job, whose lock we hold: at once, so that no other run sees half of it."""
    gone = folder.with_name(f"{folder.name}.{os.getpid()}")
    try:
        folder.rename(gone)
    except OSError:  # a name too long, say
        gone = folder
    shutil.rmtree(gone, ignore_errors=True)


def save(data: bytes, path: Path) -> None:
    """Write a file of freezeframe's own (a job's, its cache's), all or nothing, over an earlier one."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.new")  # other processes share a cache
    with writing(path):
        try:
            with aside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)


def replaced_in(job: Path) -> Path:
    """Where a folder that is being replaced waits until its successor has its name."""
    return job / "replaced"


def put_back(job: Path, path: Path) -> None:
    """Give an earlier folder its name again where its successor never got it: a full disk, a power cut."""
    if replaced_in(job).exists() and not os.path.lexists(path):
        replaced_in(job).rename(path)


def stamp_of(path: Path) -> Stamp | None:
    """Tells a file, or a folder with all that is in it, from another and from its own later state."""
    try:
        facts = path.lstat()
    except OSError:
        return None
    if not path.is_dir() or path.is_symlink():
        return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns
    inside = sorted((each.name, stamp_of(each)) for each in path.iterdir())
    return facts.st_dev, facts.st_ino, tuple(inside)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system says about a failed write into a sentence about the output."""
    try:
        yield
    except OSError as error:
        if error.errno in (ENOSPC, EDQUOT, EFBIG):
            raise UnwritableOutput(
                f"{path}: no space left on the disk; free some and rerun: what is finished is kept"
            ) from error
        raise UnwritableOutput(f"{path}: cannot be written ({error.strerror or error})") from error


def _refuse_kind(path: Path, kind: str) -> None:
    if not path.name:
        raise UnwritableOutput(f"{path}: is a folder; name a {kind} in it")
    if kind == "folder" and os.path.lexists(path) and not path.is_dir():
        raise UnwritableOutput(f"{path}: is a file; name a folder, or a video by its suffix")
    if kind == "file" and path.is_dir():
        raise UnwritableOutput(f"{path}: is a folder; name a file")
    if kind == "file" and path.exists() and not path.is_file():
        raise UnwritableOutput(f"{path}: is not a regular file; choose another name")


def _try(path: Path) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}.freezeframe")
    with writing(path), made_for(path) as made:
        try:
            aside.write_bytes(bytes(_TRIAL))
            _sync(aside)
        finally:
            aside.unlink(missing_ok=True)
        remove_empty(made)


def _same(one: Path, other: Path) -> bool:
    """Whether both are one file: by another path, a link, or on a disk that ignores case."""
    with suppress(OSError):
        return one.samefile(other)
    return False


def _folded(path: Path) -> Path:
    return Path(str(path.resolve()).casefold())


def _sync(finished: Path) -> None:
    if finished.is_file():
        with finished.open("rb") as file:
            os.fsync(file.fileno())


def _move(finished: Path, path: Path) -> bool:
    """Give `finished` the name `path` unless something has it; False where something has."""
    move: Callable[[Path, Path], None] = _rename_folder if finished.is_dir() else _link
    try:
        move(finished, path)
    except OSError:
        if _taken(path):
            return False
        raise
    return True


def _rename_folder(finished: Path, path: Path) -> None:
    if path.is_symlink():
        raise FileExistsError(path)
    finished.rename(path)  # POSIX: onto nothing or an empty folder only


def _link(finished: Path, path: Path) -> None:
    try:
        os.link(finished, path)
    except OSError:
        if os.path.lexists(path):
            raise
        finished.rename(path)  # a disk without hard links
    else:
        finished.unlink()


def _taken(path: Path) -> bool:
    return os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir()))


def _move_beside(finished: Path, path: Path) -> Path:
    names = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in count(1))
    return next(name for name in names if not os.path.lexists(name) and _move(finished, name))
