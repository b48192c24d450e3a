"""The bundled samples: tagged files, registered to their ground truth."""

from __future__ import annotations

from fractions import Fraction
from typing import get_args

import av
import cv2
import numpy as np
import pytest
import torch

from freezeframe.data.media.video_in.frame_picture import frame_from_linear
from freezeframe.data.media.video_in.source import open_video
from freezeframe.data.metrics.image import psnr_srgb
from freezeframe.data.metrics.movers import mover_mask, static_background
from freezeframe.data.samples import ClipName, sample_burst, sample_burst_truth, sample_clip, sample_truth
from freezeframe.data.synthesis.demo.football import sports_scene
from freezeframe.data.synthesis.demo.handball import handball_scene

MAX_BYTES = 3_700_000  # part of the wheel


def decode(path):
    with av.open(str(path)) as container:
        return [(f.pts * f.time_base, f.to_ndarray(format="gray")) for f in container.decode(video=0)]


def sharpness(grey):
    """Energy of the horizontal differences, along the pan."""
    return float(np.square(np.diff(grey.astype(np.float32), axis=1)).mean())


def photo(path):
    return np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])


@pytest.fixture(scope="module")
def clip():
    return decode(sample_clip())


@pytest.fixture(scope="module")
def truth():
    return decode(sample_truth())


def test_all_samples_together_are_small():
    clips = [sample(name) for name in get_args(ClipName) for sample in (sample_clip, sample_truth)]
    paths = [*clips, *sample_burst(), *map(sample_burst_truth, range(6))]
    assert len(set(paths)) == 16
    assert sum(path.stat().st_size for path in paths) < MAX_BYTES


@pytest.mark.parametrize("name", get_args(ClipName))
@pytest.mark.parametrize("sample", [sample_clip, sample_truth])
def test_a_clip_is_tagged_and_has_sound(sample, name):
    with av.open(str(sample(name))) as container:
        picture, sound = container.streams.video[0], container.streams.audio[0]
        context = picture.codec_context
        assert (context.name, context.pix_fmt, context.width, context.height) == ("h264", "yuv420p", 640, 360)
        tags = (context.color_range, context.color_primaries, context.color_trc, context.colorspace)
        assert tags == (1, 1, 1, 1)
        assert (sound.codec_context.name, sound.layout.nb_channels) == ("aac", 1)
        assert container.metadata["title"]
        assert abs(picture.duration * picture.time_base - sound.duration * sound.time_base) < Fraction(1, 10)


def test_clip_and_truth_show_the_same_moments(clip, truth):
    assert [time for time, _ in clip] == [time for time, _ in truth] == [Fraction(k, 30) for k in range(75)]


def test_truth_is_sharper_and_in_place(clip, truth):
    """Each blurred frame is nearest to its own true frame: the exposure is centred."""
    for k in (10, 37, 64):
        blurred = clip[k][1]
        assert sharpness(truth[k][1]) > 2 * sharpness(blurred)
        errors = [np.square(truth[j][1] - blurred.astype(np.float32)).mean() for j in range(k - 2, k + 3)]
        assert np.argmin(errors) == 2


@pytest.fixture(scope="module")
def handball():
    """Clip and truth, [2, 15, 3, H, W] linear RGB."""
    paths = sample_clip("handball"), sample_truth("handball")
    return [torch.stack([f.picture.linear() for f in open_video(path).frames()]) for path in paths]


def test_the_handball_scene_is_still_but_for_the_movers():
    """Nine pixels in ten are the same in consecutive true frames, to two 8-bit steps of compression."""
    clip, truth = (decode(sample("handball")) for sample in (sample_clip, sample_truth))
    assert [time for time, _ in clip] == [time for time, _ in truth] == [Fraction(k, 30) for k in range(15)]
    frames = np.stack([grey for _, grey in truth]).astype(np.float32)
    assert np.quantile(np.abs(np.diff(frames, axis=0)), 0.9, axis=(1, 2)).max() <= 2
    errors = [np.square(frames[k] - clip[7][1]).mean() for k in range(5, 10)]
    assert np.argmin(errors) == 2, "the exposure is centred"


def test_the_mask_of_the_handball_sample_is_the_area_that_the_movers_sweep(handball):
    """All but a twentieth of the area of at least half a mover, and little of what no mover touches."""
    clip, truth = handball
    scene = handball_scene(640, 360, seed=3)
    times = [7 + 0.7 * ((k + 0.5) / 25 - 0.5) for k in range(25)]
    swept = torch.stack([scene.movers(t) for t in times]).amax(0)
    mask = mover_mask(clip[7], truth[7], static_background(truth))
    assert (swept > 0.5)[~mask].sum() < 0.05 * (swept > 0.5).sum()
    near = torch.nn.functional.max_pool2d(swept[None], 9, stride=1, padding=4)[0] > 0.1
    assert mask[~near].sum() < 0.01 * mask.sum()


def test_each_photo_has_its_truth_on_its_own_grid():
    """A photo is nearer to its own truth than to any other's."""
    photos = [photo(path) for path in sample_burst()]
    truths = [photo(sample_burst_truth(k)) for k in range(6)]
    scores = np.array([[psnr_srgb(p, t) for t in truths] for p in photos])
    assert (scores.argmax(axis=1) == np.arange(6)).all()
    for shaken, sharp in zip(photos, truths, strict=True):
        assert sharpness(sharp) > 1.5 * sharpness(shaken)


def test_the_truth_comes_out_of_its_renderer(truth):
    """A rendered true frame differs from the bundled one by compression alone: over 30 dB in luma."""
    scene = sports_scene(640, 360, seed=7, frames=75)
    rendered = frame_from_linear(scene.sharp(30.0), depth=8).to_ndarray(format="gray")
    assert psnr_srgb(truth[30][1], rendered) > 30
