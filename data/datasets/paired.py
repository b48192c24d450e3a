"""Blurred pictures with their truth, whatever the layout they come in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from freezeframe.data.errors import UnreadableMedia
from freezeframe.data.media.files.suffixes import PHOTO_SUFFIXES
from freezeframe.data.media.folder.source import open_folder

Comparison = Literal["per_pixel", "aligned", "best_of_many"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameSequence:
    """Consecutive frames of one camera, or one photo."""

    name: str
    blurred: tuple[Path, ...]
    truths: tuple[tuple[Path, ...], ...]  # of each frame; several where the truth is a whole trajectory

    def __post_init__(self) -> None:
        if not self.blurred or len(self.blurred) != len(self.truths):
            raise ValueError(f"{self.name}: {len(self.blurred)} frames with {len(self.truths)} truths")


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDataset:
    """A set, and how its authors compare with its truth."""

    name: str
    sequences: tuple[FrameSequence, ...]
    comparison: Comparison = "per_pixel"

    @property
    def frames(self) -> int:
        """Of all takes together."""
        return sum(len(sequence.blurred) for sequence in self.sequences)


def folder_pair(blurred: Path, truth: Path) -> PairedDataset:
    """Two folders with pictures of the same names, or with folders of the same names that hold such."""
    for folder in (blurred, truth):
        if not folder.is_dir():
            raise UnreadableMedia(
                f"{folder}: is not a folder; name one with pictures, or with folders of them"
            )
    children = subfolders(blurred)
    if not children or any(path.suffix.lower() in PHOTO_SUFFIXES for path in blurred.iterdir()):
        return PairedDataset(name=blurred.name, sequences=(pair_sequence(blurred, truth, name=blurred.name),))
    return PairedDataset(
        name=blurred.name,
        sequences=tuple(pair_sequence(each, truth / each.name, name=each.name) for each in children),
    )


def pair_sequence(blurred: Path, truth: Path, *, name: str) -> FrameSequence:
    """The frames of one folder, each with the picture of the same name (whatever its suffix) in the other."""
    for folder in (blurred, truth):
        if not folder.is_dir():
            raise UnreadableMedia(f"{folder}: is missing; unpack the set again, or name another layout")
    frames = open_folder(blurred).images
    truth_by_name = {path.stem: path for path in open_folder(truth).images}
    missing = [path.name for path in frames if path.stem not in truth_by_name]
    if missing:
        raise UnreadableMedia(
            f"{truth}: lacks the truth of {missing[0]} and of {len(missing) - 1} more; unpack the set again"
        )
    return FrameSequence(
        name=name, blurred=frames, truths=tuple((truth_by_name[path.stem],) for path in frames)
    )


def subfolders(folder: Path) -> list[Path]:
    """Visible folders in a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def sequence_folders(folder: Path, content: str) -> list[Path]:
    """The folders of a folder's sequences, each of which must hold `content`."""
    folders = subfolders(folder) if folder.is_dir() else []
    if not folders:
        raise UnreadableMedia(f"{folder}: holds no sequence; each is a folder with {content} in it")
    return folders


def per_pixel_dataset(name: str, sequences: Iterable[FrameSequence]) -> PairedDataset:
    """A set compared pixel by pixel."""
    return PairedDataset(name=name, sequences=tuple(sequences))
