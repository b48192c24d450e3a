from __future__ import annotations

import sys

import cv2
import pytest
import torch

from freezeframe.data.errors import MissingExtra
from freezeframe.motion.diagnosis.diagnose import diagnose
from freezeframe.motion.diagnosis.plot import SCALES, plot_diagnosis, stroke_scale


@pytest.fixture
def example(film, panning):
    frames = film(panning(10.0, 4.0), [0, 1], shutter=0.6, noise=0.005)
    blur = torch.tensor([6.0, 2.4]).reshape(2, 1, 1).expand(2, *frames.shape[2:])
    return frames, [diagnose(frame, blur=blur) for frame in frames]


def test_a_plot_is_drawn(tmp_path, example):
    pytest.importorskip("matplotlib")
    frames, diagnoses = example
    plot_diagnosis(tmp_path / "plot.png", diagnoses, times=[0.0, 0.04], frame=frames[1], index=1)
    picture = cv2.imread(str(tmp_path / "plot.png"))
    assert picture.shape[1] == 1100
    blue = (picture[..., 0] > 180) & (picture[..., 2] < 80)
    assert blue.sum() > 200, "strokes in the colour of camera motion"


def test_without_matplotlib_the_cure_is_named(tmp_path, example, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    frames, diagnoses = example
    with pytest.raises(MissingExtra, match="pip install matplotlib"):
        plot_diagnosis(tmp_path / "plot.png", diagnoses, times=[0.0, 0.04], frame=frames[0], index=0)


def test_short_blur_is_drawn_longer_than_it_is_and_still_within_its_region(example):
    """Two pixels on a wide frame would be a dot: strokes are scaled until the longest just fits."""
    frames, (diagnoses, _) = example
    longest = max(region.blur for row in diagnoses.regions for region in row)
    height, width = frames.shape[2:]
    limit = min(height / len(diagnoses.regions), width / len(diagnoses.regions[0]))
    scale = stroke_scale(diagnoses, (height, width))
    assert scale * longest < limit
    assert scale in SCALES
    assert scale == 1 or scale * longest > limit / 4, "the next longer one would leave its region"
    assert stroke_scale(diagnoses, (50 * height, 50 * width)) > scale
