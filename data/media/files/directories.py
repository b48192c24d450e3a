"""Creating and removing folders: parents of an output, and the work folder of a job."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def make_folder(folder: Path) -> list[Path]:
    """Create a folder and its parents; return the created ones, innermost first."""
    missing: list[Path] = []
    for parent in (folder, *folder.parents):
        if parent.exists():
            break
        missing.append(parent)
    folder.mkdir(parents=True, exist_ok=True)
    return missing


@contextmanager
def create_parents(path: Path) -> Iterator[list[Path]]:
    """Create the parent folders of `path`; remove the created ones if the block raises."""
    new_folders = make_folder(path.parent)
    try:
        yield new_folders
    except BaseException:
        remove_empty(new_folders)
        raise


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders, innermost first, up to the first that is not empty."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def remove(path: Path) -> None:
    """Remove a file or a folder with its content."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def work_dir(path: Path) -> Path:
    """The folder for the unfinished work of an output: beside it, so that publishing is a rename."""
    return path.with_name(f".{path.name}.freezeframe")


def remove_work_dir(folder: Path) -> None:
    """Remove a locked work folder. A rename comes first, so that no other run sees it half removed."""
    trash = folder.with_name(f"{folder.name}.{os.getpid()}")
    try:
        folder.rename(trash)
    except OSError:  # e.g. the name is too long
        trash = folder
    shutil.rmtree(trash, ignore_errors=True)


def replaced_path(work_folder: Path) -> Path:
    """Temporary place of a folder that is being replaced, until the new one has its name."""
    return work_folder / "replaced"


def restore_replaced(work_folder: Path, path: Path) -> None:
    """Move a replaced folder back if its replacement was never published (full disk, power cut)."""
    if replaced_path(work_folder).exists() and not os.path.lexists(path):
        replaced_path(work_folder).rename(path)
