"""The folder of confidence maps: nothing of the user is replaced, nothing of an interrupted run is lost."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from freezeframe.data.errors import UnwritableOutput
from freezeframe.data.media.files.directories import work_dir
from freezeframe.data.media.folder.confidence_maps import ConfidenceMapFolder

SHARES = torch.stack([torch.full((4, 6), code, dtype=torch.uint8) for code in (200, 40, 15)])


def open_maps(path: Path, *, force: bool = False, key: str = "a") -> ConfidenceMapFolder:
    return ConfidenceMapFolder(path, inputs=[], force=force, key=key)


def test_the_channels_are_red_green_and_blue(tmp_path: Path):
    maps = open_maps(tmp_path / "maps")
    maps.write(123, SHARES)
    assert not (tmp_path / "maps").exists(), "it appears when it is complete"
    maps.publish()
    maps.close(keep=False)
    (file,) = (tmp_path / "maps").iterdir()
    assert file.name == "000123.png"
    pixels = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(pixels, SHARES.permute(1, 2, 0).numpy())
    assert [entry.name for entry in tmp_path.iterdir()] == ["maps"]


@pytest.mark.parametrize("name", ["notes.txt", "holiday.png", "000001.png.txt"])
def test_other_files_are_never_replaced(name: str, tmp_path: Path):
    folder = tmp_path / "maps"
    folder.mkdir()
    (folder / name).write_text("precious")
    with pytest.raises(UnwritableOutput, match="exists already"):
        open_maps(folder)
    with pytest.raises(UnwritableOutput, match=f"other files than confidence maps \\({name}\\)"):
        open_maps(folder, force=True)
    assert (folder / name).read_text() == "precious"
    assert [entry.name for entry in tmp_path.iterdir()] == ["maps"]


def test_maps_are_replaced_if_the_user_says_so(tmp_path: Path):
    for index, force in ((1, False), (2, True)):
        maps = open_maps(tmp_path / "maps", force=force)
        maps.write(index, SHARES)
        maps.publish()
        maps.close(keep=False)
    assert [file.name for file in (tmp_path / "maps").iterdir()] == ["000002.png"]


def test_a_run_that_goes_on_finds_its_maps(tmp_path: Path):
    """Those of frames that are processed again are written again; another job starts from nothing."""
    maps = open_maps(tmp_path / "maps")
    first_id = maps.job_id
    for index in (3, 4, 5):
        maps.write(index, SHARES)
    maps.close(keep=True)
    again = open_maps(tmp_path / "maps")
    assert again.job_id == first_id
    again.discard_from(5)
    again.close(keep=True)
    assert sorted(file.name for file in (work_dir(tmp_path / "maps") / "maps").iterdir()) == [
        "000003.png", "000004.png"
    ]  # fmt: skip
    other = open_maps(tmp_path / "maps", key="b")
    assert other.job_id != first_id
    other.publish()
    other.close(keep=False)
    assert not list((tmp_path / "maps").iterdir())


def test_maps_that_nobody_continues_leave_nothing(tmp_path: Path):
    maps = open_maps(tmp_path / "new" / "maps")
    maps.write(0, SHARES)
    maps.close(keep=False)
    assert not list(tmp_path.iterdir())
