"""Sets of single photos with their truth: each photo is a take of its own."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from freezeframe.data.errors import UnreadableMedia

from .paired import Pairs, Take, sequences, take

_BLURRY = re.compile(r"Blurry(\d+)_(\d+)$")
_TRUTH = re.compile(r"GroundTruth(\d+)_(\d+)_(\d+)$")


def realblur(root: Path, camera: str, split: str) -> Pairs:
    """RealBlur-J or -R: a list names the truth and the blurred photo in each line.

    Two cameras behind a beam splitter never see quite the same: its authors align before they compare.
    """
    listed = root / f"RealBlur_{camera}_{split}_list.txt"
    if not listed.is_file():
        raise UnreadableMedia(f"{root}: lacks {listed.name}; take it from the set's archive")
    lines = [line.split() for line in listed.read_text().splitlines() if line.strip()]
    if not lines or any(len(line) < 2 for line in lines):
        raise UnreadableMedia(f"{listed}: must name a truth and a blurred photo in every line")
    takes = tuple(_named(root, listed, truth=line[0], blurred=line[1]) for line in lines)
    return Pairs(name=f"RealBlur-{camera}", takes=takes, rule="aligned")


def hide(root: Path, split: str) -> Pairs:
    """HIDE: people near and far; the truth of all groups lies in one folder."""
    truth = root / "GT"
    if not truth.is_dir():
        raise UnreadableMedia(f"{truth}: is missing; the sharp photos of HIDE lie there")
    takes = []
    for group in sequences(root / split, "blurred photos"):
        for photo in sorted(path for path in group.iterdir() if path.suffix.lower() == ".png"):
            if not (truth / photo.name).is_file():
                raise UnreadableMedia(f"{truth}: lacks {photo.name}, the truth of {photo}; unpack it again")
            name = f"{group.name}/{photo.stem}"
            takes.append(Take(name=name, blurred=(photo,), truths=((truth / photo.name,),)))
    if not takes:
        raise UnreadableMedia(f"{root / split}: holds no PNG in its folders; unpack the set again")
    return Pairs(name="HIDE", takes=tuple(takes))


def kohler(root: Path) -> Pairs:
    """Köhler: four pictures on twelve camera trajectories; each frame of the trajectory is a truth."""
    truths: dict[tuple[int, int], list[tuple[int, Path]]] = defaultdict(list)
    blurred: dict[tuple[int, int], Path] = {}
    for path in root.rglob("*.png"):
        if found := _BLURRY.match(path.stem):
            blurred[int(found[1]), int(found[2])] = path
        elif found := _TRUTH.match(path.stem):
            truths[int(found[1]), int(found[2])].append((int(found[3]), path))
    if not blurred:
        raise UnreadableMedia(f"{root}: holds no Blurry1_1.png; unpack BlurryImages.zip there")
    lacking = [place for place in blurred if place not in truths]
    if lacking:
        picture, way = min(lacking)
        raise UnreadableMedia(
            f"{root}: holds no GroundTruth{picture}_{way}_1.png;"
            f" unpack GroundTruth_pngs_Image{picture}.zip there"
        )
    takes = (
        Take(
            name=f"{place[0]}_{place[1]}",
            blurred=(path,),
            truths=(tuple(truth for _, truth in sorted(truths[place])),),
        )
        for place, path in sorted(blurred.items())
    )
    return Pairs(name="Köhler", takes=tuple(takes), rule="best of many")


def photos(blurred: Path, truth: Path) -> Pairs:
    """Two folders with photos of the same names that have nothing to do with one another."""
    whole = take(blurred, truth, name=blurred.name)
    takes = (
        Take(name=photo.stem, blurred=(photo,), truths=(sharp,))
        for photo, sharp in zip(whole.blurred, whole.truths, strict=True)
    )
    return Pairs(name=blurred.name, takes=tuple(takes))


def _named(root: Path, listed: Path, *, truth: str, blurred: str) -> Take:
    for name in (truth, blurred):
        if not (root / name).is_file():
            raise UnreadableMedia(
                f"{root / name}: is missing, but {listed.name} names it; unpack the set again"
            )
    scene = Path(blurred).parent.parent.name
    return Take(name=f"{scene}/{Path(blurred).stem}", blurred=(root / blurred,), truths=((root / truth,),))
