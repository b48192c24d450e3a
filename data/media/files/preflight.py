"""Checks of inputs and outputs before any work."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import combinations
from pathlib import Path

from freezeframe.data.errors import UnreadableMedia, UnwritableOutput

from .directories import create_parents, remove_empty
from .error_translation import translate_write_errors

_TEST_WRITE_BYTES = 1 << 12


def reject_pipe(path: Path) -> None:
    """Raise for a pipe or a device: it can be read once and may block; media are read several times."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UnreadableMedia(f"{path}: is a pipe or a device; save its data to a file, and name that file")


def reject_inputs(path: Path, inputs: Iterable[Path]) -> None:
    """Raise if an output is an input or lies inside one, under any name."""
    resolved = path.resolve()
    for input_path in inputs:
        resolved_input = input_path.resolve()
        if resolved == resolved_input or _is_same_file(path, input_path):
            raise UnwritableOutput(f"{path}: is the input itself; name another output")
        if not input_path.is_dir():
            continue
        if resolved_input in resolved.parents:
            raise UnwritableOutput(f"{path}: lies inside the input folder; name one outside it")
        if path.is_file() and any(_is_same_file(path, entry) for entry in input_path.iterdir()):
            raise UnwritableOutput(f"{path}: is one of the input's images; name another output")


def check_kind(path: Path, kind: str) -> None:
    """Raise if an existing entry is not of the required kind, `file` or `folder`."""
    if not path.name:
        raise UnwritableOutput(f"{path}: is a folder; name a {kind} in it")
    if kind == "folder" and os.path.lexists(path) and not path.is_dir():
        raise UnwritableOutput(f"{path}: is a file; name a folder, or a video by its suffix")
    if kind == "file" and path.is_dir():
        raise UnwritableOutput(f"{path}: is a folder; name a file")
    if kind == "file" and path.exists() and not path.is_file():
        raise UnwritableOutput(f"{path}: is not a regular file; choose another name")


def check_writable(path: Path) -> None:
    """Raise if the parent folder of an output cannot be created or written to."""
    parent = path.absolute().parent
    ancestor = next(folder for folder in (parent, *parent.parents) if os.path.lexists(folder))
    display_path = path.parent if ancestor == parent else ancestor
    if not ancestor.is_dir():
        raise UnwritableOutput(f"{path}: {display_path} is not a folder; choose another place")
    if not os.access(ancestor, os.W_OK | os.X_OK):
        raise UnwritableOutput(f"{path}: no permission to write to the folder {display_path}; choose another")


def try_write(path: Path) -> None:
    """Write a small file beside an output and remove it, with every folder created for it."""
    temp_path = path.with_name(f".{path.name}.{os.getpid()}.freezeframe")
    with translate_write_errors(path), create_parents(path) as new_folders:
        try:
            temp_path.write_bytes(bytes(_TEST_WRITE_BYTES))
            with temp_path.open("rb") as file:
                os.fsync(file.fileno())
        finally:
            temp_path.unlink(missing_ok=True)
        remove_empty(new_folders)


def check_collisions(outputs: Mapping[str, Path | None]) -> None:
    """Raise if two outputs of one command are one file, or one lies inside another.

    Args:
        outputs: Paths by the names that the user knows. Paths that differ in case only collide: they are one
            file on many disks.
    """
    paths = [(name, path, _casefold_path(path)) for name, path in outputs.items() if path is not None]
    for (first, first_path, a), (second, second_path, b) in combinations(paths, 2):
        if a == b or _is_same_file(first_path, second_path):
            raise UnwritableOutput(
                f"{second_path}: is {first} and {second} at once; name two different files"
            )
        if a in b.parents or b in a.parents:
            inner, outer = (second, first) if a in b.parents else (first, second)
            raise UnwritableOutput(f"{outputs[inner]}: {inner} lies inside {outer}; name a place outside it")


def _is_same_file(one: Path, other: Path) -> bool:
    """Whether two paths are one file: through a link, or on a file system that ignores case."""
    with suppress(OSError):
        return one.samefile(other)
    return False


def _casefold_path(path: Path) -> Path:
    return Path(str(path.resolve()).casefold())
