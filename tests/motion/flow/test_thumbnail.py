from __future__ import annotations

import itertools

import av
import cv2
import numpy as np
import pytest
import torch

from freezeframe.motion.flow.estimators import gamma_luma_uint8
from freezeframe.motion.flow.thumbnail import coarse_speeds, fine_speeds, scene_cut_score


def lumas(frames):
    return [torch.from_numpy(gamma_luma_uint8(frame)) for frame in frames]


def clip(path, count):
    with av.open(str(path)) as container:
        frames = itertools.islice(container.decode(video=0), count)
        return [torch.from_numpy(np.ascontiguousarray(f.to_ndarray(format="gray"))) for f in frames]


@pytest.mark.parametrize("estimator", [coarse_speeds, fine_speeds])
def test_stills_rest(estimator, film, panning):
    """Two frames with different noise: less than a pixel of motion in 95 % of the image."""
    a = lumas(film(panning(0, 0), [0], noise=0.01))[0]
    grain = np.random.default_rng(5).normal(0, 2.5, a.shape)
    b = torch.from_numpy(np.clip(a.numpy() + grain + 0.5, 0, 255).astype(np.uint8))
    assert float(estimator(a, b).quantile(0.95)) < 1


@pytest.mark.parametrize("speed", [0.0, 3.0, 6.0, 15.0])
def test_fine_speeds_are_accurate_to_half_a_pixel(speed, film, panning):
    a, b = lumas(film(panning(speed, 0.0), [0, 1]))
    assert float(fine_speeds(a, b).median()) == pytest.approx(speed, abs=0.5)


@pytest.mark.parametrize("speed", [0.0, 6.0, 15.0])
def test_speeds_are_the_speed_of_a_pan(speed, film, panning):
    """To a pixel or a tenth, in both directions of time."""
    a, b = lumas(film(panning(speed, 0.0), [0, 1]))
    forward, backward = float(coarse_speeds(a, b).median()), float(coarse_speeds(b, a).median())
    assert forward == pytest.approx(speed, abs=1.0, rel=0.1)
    assert backward == pytest.approx(forward, abs=1.0), "time reversal"


@pytest.mark.parametrize("step", [0.05, 0.1, 0.18])
def test_a_fast_pan_is_no_cut(step, scene):
    encoded = (np.sqrt(scene.mean(-1)) * 255).astype(np.uint8)
    width = encoded.shape[1] * 2 // 3
    move = int(width * step)
    blurred = cv2.blur(encoded, (max(1, move // 2), 1))
    assert scene_cut_score(*(torch.from_numpy(blurred[:, x : x + width].copy()) for x in (0, move))) < 0.5


def test_a_flash_is_no_cut(film, panning):
    dark = lumas(film(panning(0, 0), [0]))[0]
    bright = torch.from_numpy(np.clip(dark.numpy() * 1.7 + 40, 0, 255).astype(np.uint8))
    assert scene_cut_score(dark, bright) < 0.5


def test_real_clips_are_cut_where_they_meet_and_nowhere_else(shared_data):
    names = ["train/02_cups.mp4", "train/03_blocks.mp4", "test/clips/04_coffee.mp4", "train/flower.mp4"]
    clips = [clip(shared_data / name, 8) for name in names]
    for frames in clips:
        assert max(scene_cut_score(a, b) for a, b in itertools.pairwise(frames)) < 0.5
    for before, after in itertools.pairwise(clips):
        first = torch.from_numpy(cv2.resize(after[0].numpy(), before[-1].shape[::-1]))
        assert scene_cut_score(before[-1], first) > 0.5
        assert scene_cut_score(first, before[-1]) > 0.5, "time reversal"


def test_to_black_is_a_cut_and_black_to_black_is_none(film, panning):
    picture = lumas(film(panning(0, 0), [0]))[0]
    black = torch.zeros_like(picture)
    assert scene_cut_score(picture, black) > 0.5
    assert scene_cut_score(black, black) == 0


@pytest.mark.parametrize("size", [(1, 1), (9, 300), (40, 30)])
def test_any_size_has_speeds(size):
    frame = torch.randint(0, 255, size, dtype=torch.uint8)
    assert not coarse_speeds(frame, frame).any()
    assert not fine_speeds(frame, frame).any()
    assert 0 <= scene_cut_score(frame, frame) <= 1
