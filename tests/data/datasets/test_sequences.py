"""Published layouts in miniature: what belongs together is found, what is missing is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from freezeframe.data.datasets.paired import FrameSequence, folder_pair
from freezeframe.data.datasets.sequences import SetName, open_set
from freezeframe.data.datasets.single_images import photos
from freezeframe.data.errors import UnreadableMedia

MakePictures = Callable[..., Path]


@pytest.fixture
def make_pictures(tmp_path: Path) -> MakePictures:
    """`plant("a/1.png", ...)`: pictures in a new folder, which it returns."""

    def write_pictures(*names: str) -> Path:
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), np.zeros((16, 16, 3), np.uint8))
        return tmp_path

    return write_pictures


# Of each layout: files of two frames or photos, and the truth that belongs to each blurred one.
LAYOUTS: dict[str, tuple[SetName, list[tuple[str, str]]]] = {
    "gopro": ("gopro", [(f"test/GOPR1/blur/00000{i}.png", f"test/GOPR1/sharp/00000{i}.png") for i in (1, 2)]),
    "gopro-gamma": (
        "gopro-gamma",
        [(f"test/GOPR1/blur_gamma/00000{i}.png", f"test/GOPR1/sharp/00000{i}.png") for i in (1, 2)],
    ),
    "dvd": (
        "dvd",
        [
            (
                f"quantitative_datasets/IMG_0030/input/0000{i}.jpg",
                f"quantitative_datasets/IMG_0030/GT/0000{i}.jpg",
            )
            for i in (1, 2)
        ],
    ),
    "bsd": (
        "bsd",
        [
            (f"{exposure}/test/000/Blur/RGB/00000000.png", f"{exposure}/test/000/Sharp/RGB/00000000.png")
            for exposure in ("BSD_1ms8ms", "BSD_3ms24ms")
        ],
    ),
    "reds": ("reds", [(f"val_blur/{s}/00000000.png", f"val_sharp/{s}/00000000.png") for s in ("000", "001")]),
    "reds, one folder deeper": (
        "reds",
        [(f"val/val_blur/000/0000000{i}.png", f"val/val_sharp/000/0000000{i}.png") for i in (0, 1)],
    ),
    "reds, archive by archive": (
        "reds",
        [
            (f"val_blur/val_blur/{s}/00000000.png", f"val_sharp/val_sharp/{s}/00000000.png")
            for s in ("0", "1")
        ],
    ),
    "reds, by sequence": ("reds", [(f"000/blur/0{i}.png", f"000/sharp/0{i}.png") for i in (0, 1)]),
    "hide": (
        "hide",
        [("test/test-close-ups/1.png", "GT/1.png"), ("test/test-long-shot/2.png", "GT/2.png")],
    ),
    "kohler": (
        "kohler",
        [
            ("BlurryImages/Blurry1_2.png", "Image1/GroundTruth1_2_1.png"),
            ("Blurry4_12.png", "GroundTruth4_12_9.png"),
        ],
    ),
}


def frame_truth_pairs(sequences: tuple[FrameSequence, ...]) -> set[tuple[Path, Path]]:
    return {
        (frame, truth)
        for sequence in sequences
        for frame, truths in zip(sequence.blurred, sequence.truths, strict=True)
        for truth in truths
    }


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_blurred_picture_meets_its_own_truth(layout: str, make_pictures: MakePictures) -> None:
    name, expected = LAYOUTS[layout]
    root = make_pictures(*(path for pair in expected for path in pair))
    dataset = open_set(root, name)
    assert frame_truth_pairs(dataset.sequences) == {
        (root / blurred, root / truth) for blurred, truth in expected
    }
    assert dataset.frames == 2


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_missing_truth_is_named_with_its_folder(layout: str, make_pictures: MakePictures) -> None:
    name, expected = LAYOUTS[layout]
    root = make_pictures(*(path for pair in expected for path in pair))
    (root / expected[-1][1]).unlink()
    with pytest.raises(UnreadableMedia) as error:
        open_set(root, name)
    assert str(root) in str(error.value)
    assert {"lacks", "holds no"} & {words for words in ("lacks", "holds no") if words in str(error.value)}


@pytest.mark.parametrize(
    "name", ["gopro", "dvd", "bsd", "reds", "realblur-j", "realblur-r", "hide", "kohler"]
)
def test_an_empty_folder_is_told_what_it_lacks(name: SetName, tmp_path: Path) -> None:
    with pytest.raises(UnreadableMedia, match=str(tmp_path)):
        open_set(tmp_path, name)


def test_a_split_folder_may_be_named_itself(make_pictures: MakePictures) -> None:
    root = make_pictures("train/A/blur/1.png", "train/A/sharp/1.png")
    assert (
        open_set(root, "gopro", split="train").sequences
        == open_set(root / "train", "gopro", split="train").sequences
    )


def test_realblur_follows_its_list_and_is_aligned(make_pictures: MakePictures) -> None:
    """The list says truth first."""
    folder = "RealBlur-J_ECC_IMCORR_centroid_itensity_ref/scene230"
    root = make_pictures(f"{folder}/gt/gt_7.png", f"{folder}/blur/blur_7.png", f"{folder}/blur/blur_8.png")
    listed = root / "RealBlur_J_test_list.txt"
    listed.write_text(f"{folder}/gt/gt_7.png {folder}/blur/blur_7.png \n\n")
    dataset = open_set(root, "realblur-j")
    assert dataset.comparison == "aligned"
    assert frame_truth_pairs(dataset.sequences) == {
        (root / folder / "blur/blur_7.png", root / folder / "gt/gt_7.png")
    }
    listed.write_text(f"{folder}/gt/gt_9.png {folder}/blur/blur_8.png\n")
    with pytest.raises(UnreadableMedia, match=r"gt_9\.png: is missing, but RealBlur_J_test_list\.txt"):
        open_set(root, "realblur-j")


def test_a_shaken_photo_has_its_whole_trajectory_as_truth(make_pictures: MakePictures) -> None:
    root = make_pictures("Blurry1_1.png", *(f"GroundTruth1_1_{i}.png" for i in (10, 2, 1)))
    dataset = open_set(root, "kohler")
    assert dataset.comparison == "best_of_many"
    assert [path.name for path in dataset.sequences[0].truths[0]] == [
        f"GroundTruth1_1_{i}.png" for i in (1, 2, 10)
    ]


def test_plain_folders_pair_by_name_whatever_the_suffix(make_pictures: MakePictures) -> None:
    root = make_pictures("in/2.jpg", "in/10.jpg", "out/10.png", "out/2.png", "out/3.png")
    (sequence,) = folder_pair(root / "in", root / "out").sequences
    assert [path.name for path in sequence.blurred] == ["2.jpg", "10.jpg"]
    assert [path.name for (path,) in sequence.truths] == ["2.png", "10.png"]
    assert [len(each.blurred) for each in photos(root / "in", root / "out").sequences] == [1, 1]


def test_folders_of_folders_are_sequences(make_pictures: MakePictures) -> None:
    root = make_pictures("in/a/1.png", "in/b/1.png", "out/a/1.png", "out/b/1.png")
    assert [sequence.name for sequence in folder_pair(root / "in", root / "out").sequences] == ["a", "b"]
    with pytest.raises(UnreadableMedia, match="is missing"):
        folder_pair(root / "in", root / "out" / "a")


def test_the_real_pairs_open(shared_data: Path) -> None:
    dataset = open_set(shared_data / "test" / "reds", "reds")
    assert (len(dataset.sequences), dataset.frames) == (2, 20)
    assert photos(*(shared_data / "test" / "gopro_patches" / kind for kind in ("blur", "sharp"))).frames == 30
