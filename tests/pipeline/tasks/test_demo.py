"""The demo: its pictures show the change, its text names the files."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from freezeframe.pipeline.tasks.demo import SAMPLES, SEAM_PX, before_after, demo, most_changed


def test_before_and_after_stand_side_by_side(tmp_path):
    black, grey = torch.zeros(3, 10, 12), torch.full((3, 10, 12), 0.2140)
    image = cv2.imread(str(before_after(black, grey, tmp_path / "a.png", zoom=2)))
    assert image.shape == (20, 2 * 24 + SEAM_PX, 3)
    assert (image[:, :24] == 0).all()
    assert (image[:, 24 : 24 + SEAM_PX] == 255).all()
    assert (image[:, -24:] == 127).all() or (image[:, -24:] == 128).all()  # sRGB code of 21.4 % light


def test_colours_stay_what_they_are(tmp_path):
    red = torch.zeros(3, 8, 8)
    red[0] = 1
    image = cv2.imread(str(before_after(red, red, tmp_path / "red.png")))
    assert tuple(image[4, 2]) == (0, 0, 255)  # OpenCV reads blue first


@pytest.mark.parametrize(("y", "x"), [(0, 0), (70, 150), (30, 60)])
def test_the_detail_holds_what_changed(y, x):
    before = torch.zeros(3, 90, 160)
    after = before.clone()
    after[:, y : y + 20, x : x + 10] = 0.5
    rows, columns = most_changed(before, after)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (45, 80)
    assert after[:, rows, columns].sum() == after.sum()


def test_the_detail_of_a_large_frame_stays_handy():
    rows, columns = most_changed(torch.zeros(3, 1600, 2560), torch.zeros(3, 1600, 2560))
    assert (rows.stop - rows.start, columns.stop - columns.start) == (360, 640)


def test_ones_own_clip_is_shown_and_kept(film, write_clip, tmp_path):
    clip = write_clip(tmp_path / "game.avi", film((0, 0), [0.0] * 3))
    bytes_before = clip.read_bytes()
    text = demo(clip, tmp_path / "out")
    outputs = {path.name for path in (tmp_path / "out").iterdir()}
    assert outputs == {"sharp_game.avi.mkv", "before_after.png", "report.json"}
    assert all(str(tmp_path / "out" / name) in text for name in outputs)
    assert "PASS" in text
    assert "FAIL" not in text
    assert clip.read_bytes() == bytes_before


# dB that the demo must gain on each of its samples.
MIN_GAIN = {
    "sample clip handball": 1.0,
    "sample clip handball, movers only": 2.5,
    "sample clip sports": 1.0,
    "sample burst of 6 photos": 1.0,
}


@pytest.mark.slow
def test_the_samples_gain_what_the_demo_says(tmp_path):
    """All samples have ground truth, none loses, and the clip of movers is shown first."""
    lines = [line for line in demo(None, tmp_path).splitlines() if "ground truth: " in line]
    gains = {line.split(", against")[0]: float(line.split("truth: ")[1].split(" dB")[0]) for line in lines}
    assert list(gains) == list(MIN_GAIN)
    assert [label for label, gain in gains.items() if gain < MIN_GAIN[label]] == []
    assert {path.name for path in tmp_path.iterdir()} == set(SAMPLES)
    for name in ("handball_before_after.png", "sports_before_after.png", "burst_before_after.png"):
        assert np.ptp(cv2.imread(str(tmp_path / name))) > 100  # codes
