"""Sets of single photos with their truth: each photo is a take of its own."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from freezeframe.data.errors import UnreadableMedia

from .paired import FrameSequence, PairedDataset, pair_sequence, sequence_folders

_BLURRY = re.compile(r"Blurry(\d+)_(\d+)$")
_TRUTH = re.compile(r"GroundTruth(\d+)_(\d+)_(\d+)$")


def read_realblur(root: Path, camera: str, split: str) -> PairedDataset:
    """RealBlur-J or -R: a list names the truth and the blurred photo in each line.

    Two cameras behind a beam splitter never see quite the same: its authors align before they compare.
    """
    list_file = root / f"RealBlur_{camera}_{split}_list.txt"
    if not list_file.is_file():
        raise UnreadableMedia(f"{root}: lacks {list_file.name}; take it from the set's archive")
    lines = [line.split() for line in list_file.read_text().splitlines() if line.strip()]
    if not lines or any(len(line) < 2 for line in lines):
        raise UnreadableMedia(f"{list_file}: must name a truth and a blurred photo in every line")
    sequences = tuple(_listed_photo(root, list_file, truth=line[0], blurred=line[1]) for line in lines)
    return PairedDataset(name=f"RealBlur-{camera}", sequences=sequences, comparison="aligned")


def read_hide(root: Path, split: str) -> PairedDataset:
    """HIDE: people near and far; the truth of all groups lies in one folder."""
    truth = root / "GT"
    if not truth.is_dir():
        raise UnreadableMedia(f"{truth}: is missing; the sharp photos of HIDE lie there")
    sequences = []
    for group in sequence_folders(root / split, "blurred photos"):
        for photo in sorted(path for path in group.iterdir() if path.suffix.lower() == ".png"):
            if not (truth / photo.name).is_file():
                raise UnreadableMedia(f"{truth}: lacks {photo.name}, the truth of {photo}; unpack it again")
            name = f"{group.name}/{photo.stem}"
            sequences.append(FrameSequence(name=name, blurred=(photo,), truths=((truth / photo.name,),)))
    if not sequences:
        raise UnreadableMedia(f"{root / split}: holds no PNG in its folders; unpack the set again")
    return PairedDataset(name="HIDE", sequences=tuple(sequences))


def read_kohler(root: Path) -> PairedDataset:
    """Köhler: four pictures on twelve camera trajectories; each frame of the trajectory is a truth."""
    truths: dict[tuple[int, int], list[tuple[int, Path]]] = defaultdict(list)
    blurred: dict[tuple[int, int], Path] = {}
    for path in root.rglob("*.png"):
        if match := _BLURRY.match(path.stem):
            blurred[int(match[1]), int(match[2])] = path
        elif match := _TRUTH.match(path.stem):
            truths[int(match[1]), int(match[2])].append((int(match[3]), path))
    if not blurred:
        raise UnreadableMedia(f"{root}: holds no Blurry1_1.png; unpack BlurryImages.zip there")
    missing = [key for key in blurred if key not in truths]
    if missing:
        picture, trajectory = min(missing)
        raise UnreadableMedia(
            f"{root}: holds no GroundTruth{picture}_{trajectory}_1.png;"
            f" unpack GroundTruth_pngs_Image{picture}.zip there"
        )
    sequences = (
        FrameSequence(
            name=f"{key[0]}_{key[1]}",
            blurred=(path,),
            truths=(tuple(truth for _, truth in sorted(truths[key])),),
        )
        for key, path in sorted(blurred.items())
    )
    return PairedDataset(name="Köhler", sequences=tuple(sequences), comparison="best_of_many")


def photos(blurred: Path, truth: Path) -> PairedDataset:
    """Two folders with photos of the same names that have nothing to do with one another."""
    pairs = pair_sequence(blurred, truth, name=blurred.name)
    sequences = (
        FrameSequence(name=photo.stem, blurred=(photo,), truths=(sharp,))
        for photo, sharp in zip(pairs.blurred, pairs.truths, strict=True)
    )
    return PairedDataset(name=blurred.name, sequences=tuple(sequences))


def _listed_photo(root: Path, list_file: Path, *, truth: str, blurred: str) -> FrameSequence:
    for name in (truth, blurred):
        if not (root / name).is_file():
            raise UnreadableMedia(
                f"{root / name}: is missing, but {list_file.name} names it; unpack the set again"
            )
    scene = Path(blurred).parent.parent.name
    return FrameSequence(
        name=f"{scene}/{Path(blurred).stem}", blurred=(root / blurred,), truths=((root / truth,),)
    )
