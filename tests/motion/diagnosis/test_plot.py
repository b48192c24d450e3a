from __future__ import annotations

import sys

import cv2
import pytest
import torch

from freezeframe.data.errors import MissingExtra
from freezeframe.motion.diagnosis.diagnose import diagnose
from freezeframe.motion.diagnosis.plot import SCALES, plot_diagnosis, stroke_scale


@pytest.fixture
def drawn(film, panning):
    frames = film(panning(10.0, 4.0), [0, 1], shutter=0.6, noise=0.005)
    blur = torch.tensor([6.0, 2.4]).reshape(2, 1, 1).expand(2, *frames.shape[2:])
    return frames, [diagnose(frame, blur=blur) for frame in frames]


def test_a_sheet_is_drawn(tmp_path, drawn):
    pytest.importorskip("matplotlib")
    frames, found = drawn
    plot_diagnosis(tmp_path / "sheet.png", found, times=[0.0, 0.04], frame=frames[1], index=1)
    picture = cv2.imread(str(tmp_path / "sheet.png"))
    assert picture.shape[1] == 1100
    blue = (picture[..., 0] > 180) & (picture[..., 2] < 80)
    assert blue.sum() > 200, "strokes in the camera's colour"


def test_without_matplotlib_the_cure_is_named(tmp_path, drawn, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    frames, found = drawn
    with pytest.raises(MissingExtra, match="pip install matplotlib"):
        plot_diagnosis(tmp_path / "sheet.png", found, times=[0.0, 0.04], frame=frames[0], index=0)


def test_short_blur_is_drawn_longer_than_it_is_and_still_within_its_region(drawn):
    """Two pixels on a wide frame would be a dot: strokes grow until the longest just fits."""
    frames, (found, _) = drawn
    longest = max(region.blur for row in found.regions for region in row)
    height, width = frames.shape[2:]
    room = min(height / len(found.regions), width / len(found.regions[0]))
    scale = stroke_scale(found, (height, width))
    assert scale * longest < room
    assert scale in SCALES
    assert scale == 1 or scale * longest > room / 4, "the next longer one would leave its region"
    assert stroke_scale(found, (50 * height, 50 * width)) > scale
