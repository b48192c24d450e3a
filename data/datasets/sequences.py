"""Published datasets of blurred images with ground truth, by the layout of their archives.

gopro, gopro-gamma   {train,test}/SEQUENCE/{blur,blur_gamma,sharp}               Nah et al. 2017
dvd                  quantitative_datasets/SEQUENCE/{input,GT}                   Su et al. 2017
bsd                  BSD_*/{train,valid,test}/SEQUENCE/{Blur,Sharp}/RGB          Zhong et al. 2020
reds                 {train,val}_{blur,sharp}/SEQUENCE, or SEQUENCE/{blur,sharp} Nah et al. 2019
realblur-j, -r       RealBlur_J_test_list.txt and the files it lists             Rim et al. 2020
hide                 test/GROUP and GT                                           Shen et al. 2019
kohler               Blurry1_1.png, GroundTruth1_1_1.png etc.                    Köhler et al. 2012
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from freezeframe.data.errors import UnreadableMedia

from .paired import PairedDataset, pair_sequence, per_pixel_dataset, sequence_folders
from .single_images import read_hide, read_kohler, read_realblur

SetName = Literal["gopro", "gopro-gamma", "dvd", "bsd", "reds", "realblur-j", "realblur-r", "hide", "kohler"]


def open_set(root: Path, name: SetName, *, split: str | None = None) -> PairedDataset:
    """Open a published dataset.

    Args:
        root: Folder of the unpacked archive, in the layout of the table above; or the folder of the split.
        name: Name of the dataset.
        split: Part of the dataset, train or test for most; None is that of the published evaluation.

    Raises:
        UnreadableMedia: A folder, a list or an image is missing.
    """
    if not root.is_dir():
        raise UnreadableMedia(f"{root}: is not a folder; name that of the unpacked dataset {name}")
    readers: Mapping[SetName, Callable[[], PairedDataset]] = {
        "gopro": lambda: _gopro(root, split or "test", blur="blur"),
        "gopro-gamma": lambda: _gopro(root, split or "test", blur="blur_gamma"),
        "dvd": lambda: _dvd(root),
        "bsd": lambda: _bsd(root, split or "test"),
        "reds": lambda: _reds(root, split or "val"),
        "realblur-j": lambda: read_realblur(root, "J", split or "test"),
        "realblur-r": lambda: read_realblur(root, "R", split or "test"),
        "hide": lambda: read_hide(root, split or "test"),
        "kohler": lambda: read_kohler(root),
    }
    return readers[name]()


def _gopro(root: Path, split: str, *, blur: str) -> PairedDataset:
    folder = root / split if (root / split).is_dir() or root.name != split else root
    return per_pixel_dataset(
        "GoPro" if blur == "blur" else "GoPro, blur_gamma",
        (
            pair_sequence(each / blur, each / "sharp", name=each.name)
            for each in sequence_folders(folder, f"{blur} and sharp")
        ),
    )


def _dvd(root: Path) -> PairedDataset:
    nested = root / "quantitative_datasets"
    folder = nested if nested.is_dir() else root
    return per_pixel_dataset(
        "DVD",
        (
            pair_sequence(each / "input", each / "GT", name=each.name)
            for each in sequence_folders(folder, "input and GT")
        ),
    )


def _bsd(root: Path, split: str) -> PairedDataset:
    exposures = [root] if root.name.startswith("BSD_") else sorted(root.glob("BSD_*"))
    if not exposures:
        raise UnreadableMedia(
            f"{root}: holds no folder BSD_1ms8ms, BSD_2ms16ms or BSD_3ms24ms; unpack one there"
        )
    return per_pixel_dataset(
        "BSD",
        (
            pair_sequence(each / "Blur" / "RGB", each / "Sharp" / "RGB", name=f"{exposure.name}/{each.name}")
            for exposure in exposures
            for each in sequence_folders(exposure / split, "Blur/RGB and Sharp/RGB")
        ),
    )


def _reds(root: Path, split: str) -> PairedDataset:
    for folder in (root, root / split):
        blurred, sharp = _inner_folder(folder / f"{split}_blur"), _inner_folder(folder / f"{split}_sharp")
        if blurred.is_dir():
            folders = sequence_folders(blurred, "frames 00000000.png and on")
            return per_pixel_dataset(
                "REDS", (pair_sequence(each, sharp / each.name, name=each.name) for each in folders)
            )
    return per_pixel_dataset(
        "REDS",
        (
            pair_sequence(each / "blur", each / "sharp", name=each.name)
            for each in sequence_folders(
                root, f"blur and sharp, unless {split}_blur and {split}_sharp lie there"
            )
        ),
    )


def _inner_folder(folder: Path) -> Path:
    """The inner folder of an archive that was unpacked into a folder of its own name."""
    return folder / folder.name if (folder / folder.name).is_dir() else folder
