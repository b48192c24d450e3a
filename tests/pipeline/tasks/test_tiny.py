"""Pictures of a few pixels have no measurable motion or degradation: they pass unchanged."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from freezeframe.pipeline.tasks.probe.run import probe
from freezeframe.pipeline.tasks.restore.run import restore
from freezeframe.pipeline.tasks.video import deblur_video

LONG = [(1, 2000), (2000, 1), (2, 300)]


def picture(path: Path, size: tuple[int, int]) -> Path:
    pixels = np.random.default_rng(sum(size)).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("height", range(1, 10))
def test_a_tiny_photo_is_diagnosed_and_restored(height, tmp_path):
    """A few pixels of noise have no measurable degradation; the file is copied."""
    folder = tmp_path / "in"
    folder.mkdir()
    photos = [picture(folder / f"{width}.png", (height, width)) for width in range(1, 10)]
    for result, photo in zip(restore(folder, tmp_path / "out"), photos, strict=True):
        assert result.output.name == photo.name
        diagnosis = probe(photo)
        assert not diagnosis.sampled_frames[0].blurred
        assert diagnosis.size == (height, int(photo.stem))
        if min(diagnosis.size) < 3:
            assert result.output.read_bytes() == photo.read_bytes()


@pytest.mark.parametrize("size", LONG, ids=str)
def test_a_line_of_pixels_is_a_photo_too(size, tmp_path):
    photo = picture(tmp_path / "line.png", size)
    assert not probe(photo).sampled_frames[0].blurred
    (result,) = restore(photo, tmp_path / "out.png")
    assert result.output.read_bytes() == photo.read_bytes()


@pytest.mark.parametrize("size", [*itertools.product((1, 2, 5, 9), repeat=2), (1, 60), (60, 1)], ids=str)
def test_a_tiny_clip_passes_untouched(size, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (size[0], size[1] + 12, 3), dtype=np.uint8)
    for k in range(4):
        moved = np.ascontiguousarray(pixels[:, 3 * k : 3 * k + size[1]])
        Image.fromarray(moved).save(folder / f"{k}.png")
    assert not any(frame.blurred for frame in probe(folder, stride=1).sampled_frames)
    assert deblur_video(folder, tmp_path / "out").counts == {"passthrough": 4}
    for before, after in zip(sorted(folder.iterdir()), sorted((tmp_path / "out").iterdir()), strict=True):
        assert before.read_bytes() == after.read_bytes()
