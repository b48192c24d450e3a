"""Numbered images: the numbers are frame times."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from freezeframe.data.errors import UnreadableMedia
from freezeframe.data.media.folder.frame_numbers import frame_positions
from freezeframe.data.media.folder.sink import ImageFolderSink
from freezeframe.data.media.folder.source import open_folder
from freezeframe.data.media.video_in.source import open_video
from freezeframe.data.media.video_out.sink import VideoSink


@pytest.mark.parametrize(
    ("numbers", "positions", "words"),
    [
        ([0, 1, 2, 4, 5], [0, 1, 2, 4, 5], "number 3 is"),
        ([7, 8, 12, 13, 15, 16], [0, 1, 5, 6, 8, 9], "numbers 9 to 11, 14 are"),
        ([10, 20, 30, 50], [0, 1, 2, 4], "number 40 is"),
        ([3, 4, 5], [0, 1, 2], None),
        ([1000, 1040, 1080], [0, 1, 2], None),
        ([1, 2, 900, 901], [0, 1, 2, 3], "evenly spaced"),
        ([5], [0], None),
    ],
)
def test_gaps_in_numbers_are_gaps_in_time(
    numbers: list[int], positions: list[int], words: str | None
) -> None:
    actual, note = frame_positions([f"clip2_{number:05d}.png" for number in numbers])
    assert actual == positions
    assert note is None if words is None else words in (note or "")


@pytest.mark.parametrize("names", [["a.png", "b.png", "d.png"], ["a1.png", "b3.png"], ["1.png", "1.jpg"]])
def test_names_that_count_nothing_lie_side_by_side(names: list[str]) -> None:
    assert frame_positions(names) == (list(range(len(names))), None)


@pytest.fixture
def gap(tmp_path: Path) -> Path:
    """Frames 0, 1, 2, 4 and 5, each as bright as its number."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in (0, 1, 2, 4, 5):
        Image.fromarray(np.full((16, 16, 3), 40 * number, np.uint8)).save(folder / f"{number:05d}.png")
    return folder


def test_a_gap_lasts_in_the_video(gap: Path, tmp_path: Path) -> None:
    source = open_folder(gap, rate=Fraction(10))
    assert source.notes == ["number 3 is missing: assumed to be a gap in time"]
    sink = VideoSink(source, tmp_path / "out.mp4")
    sink.write(list(source.frames()))
    report = sink.finish()
    assert report.passed, report.text()
    times = [frame.time for frame in open_video(tmp_path / "out.mp4").frames()]
    assert times == [Fraction(number, 10) for number in (0, 1, 2, 4, 5)]


def test_a_part_of_a_folder(gap: Path, tmp_path: Path) -> None:
    source = open_folder(gap, rate=Fraction(10), start=0.2, end=0.5)
    assert [image.name for image in source.images] == ["00002.png", "00004.png"]
    assert [frame.time for frame in source.frames()] == [0, Fraction(1, 5)]
    sink = ImageFolderSink(source, tmp_path / "out")
    sink.write(list(source.frames()))
    assert sink.finish().passed
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"00002.png", "00004.png"}


@pytest.mark.parametrize(
    ("start", "end", "words"), [(100.0, None, "the last is at 0.5 s"), (0.4, 0.2, "must come after")]
)
def test_a_part_beyond_the_end_is_refused(gap: Path, start: float, end: float | None, words: str) -> None:
    with pytest.raises(UnreadableMedia, match=words):
        open_folder(gap, rate=Fraction(10), start=start, end=end)
