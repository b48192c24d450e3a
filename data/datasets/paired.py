"""Blurred pictures with their truth, whatever the layout they come in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from freezeframe.data.errors import UnreadableMedia
from freezeframe.data.media.files.suffixes import PHOTO_SUFFIXES
from freezeframe.data.media.folder.source import open_folder

Rule = Literal["pixel by pixel", "aligned", "best of many"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """Consecutive frames of one camera, or one photo."""

    name: str
    blurred: tuple[Path, ...]
    truths: tuple[tuple[Path, ...], ...]  # of each frame; several where the truth is a whole trajectory

    def __post_init__(self) -> None:
        if not self.blurred or len(self.blurred) != len(self.truths):
            raise ValueError(f"{self.name}: {len(self.blurred)} frames with {len(self.truths)} truths")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """A set, and how its authors compare with its truth."""

    name: str
    takes: tuple[Take, ...]
    rule: Rule = "pixel by pixel"

    @property
    def frames(self) -> int:
        """Of all takes together."""
        return sum(len(take.blurred) for take in self.takes)


def folder_pair(blurred: Path, truth: Path) -> Pairs:
    """Two folders with pictures of the same names, or with folders of the same names that hold such."""
    for folder in (blurred, truth):
        if not folder.is_dir():
            raise UnreadableMedia(
                f"{folder}: is not a folder; name one with pictures, or with folders of them"
            )
    inside = subfolders(blurred)
    if not inside or any(path.suffix.lower() in PHOTO_SUFFIXES for path in blurred.iterdir()):
        return Pairs(name=blurred.name, takes=(take(blurred, truth, name=blurred.name),))
    return Pairs(
        name=blurred.name, takes=tuple(take(each, truth / each.name, name=each.name) for each in inside)
    )


def take(blurred: Path, truth: Path, *, name: str) -> Take:
    """The frames of one folder, each with the picture of the same name (whatever its suffix) in the other."""
    for folder in (blurred, truth):
        if not folder.is_dir():
            raise UnreadableMedia(f"{folder}: is missing; unpack the set again, or name another layout")
    frames = open_folder(blurred).images
    found = {path.stem: path for path in open_folder(truth).images}
    lacking = [path.name for path in frames if path.stem not in found]
    if lacking:
        raise UnreadableMedia(
            f"{truth}: lacks the truth of {lacking[0]} and of {len(lacking) - 1} more; unpack the set again"
        )
    return Take(name=name, blurred=frames, truths=tuple((found[path.stem],) for path in frames))


def subfolders(folder: Path) -> list[Path]:
    """Visible folders in a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def sequences(folder: Path, holding: str) -> list[Path]:
    """The folders of a folder's sequences, each of which must hold `holding`."""
    found = subfolders(folder) if folder.is_dir() else []
    if not found:
        raise UnreadableMedia(f"{folder}: holds no sequence; each is a folder with {holding} in it")
    return found


def collected(name: str, takes: Iterable[Take]) -> Pairs:
    """A set compared pixel by pixel."""
    return Pairs(name=name, takes=tuple(takes))
