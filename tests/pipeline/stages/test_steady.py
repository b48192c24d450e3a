"""The whole command treats a steady pan steadily."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from freezeframe.data.media.video_in.source import open_video
from freezeframe.data.metrics.temporal import smoothed_gradient, steadiness
from freezeframe.pipeline.config import Config
from freezeframe.pipeline.stages.continuity import MAX_SLOPE
from freezeframe.pipeline.tasks.video import deblur_video

SHUTTER = 0.7
PHYSICS = replace(Config(), fuse=replace(Config().fuse, network="none", iterations=3))
KNOWN = replace(PHYSICS, measure=replace(Config().measure, shutter=SHUTTER))


def pan(film, speeds: list[float]) -> torch.Tensor:
    """A pan with these speeds, in pixels per frame interval, at its frames."""
    positions, position = [], 0.0
    for speed in speeds:
        positions.append(position)
        position += speed
    frames = [
        film((speed, 0.0), [x / speed], shutter=SHUTTER)[0]
        for speed, x in zip(speeds, positions, strict=True)
    ]
    return torch.stack(frames)


def noisy(images: torch.Tensor) -> torch.Tensor:
    grain = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    return (images + 0.002 * grain).clamp_min(0)


def sharpness(clip) -> list[float]:
    return [smoothed_gradient(frame.picture.luma().numpy()) for frame in open_video(clip).frames()]


@pytest.mark.parametrize("speed", [1.3, 1.45, 5.0])
def test_a_steady_pan_is_treated_steadily(speed, film, write_clip, tmp_path):
    """Below, at and above the threshold, no frame differs from its neighbours, and nothing flickers."""
    clip = write_clip(tmp_path / "pan.mkv", noisy(pan(film, [speed] * 12)))
    report = deblur_video(clip, tmp_path / "out.mkv", config=KNOWN)
    strengths = [verdict.strength for verdict in report.verdicts]
    assert max(abs(a - b) for a, b in pairwise(strengths)) <= MAX_SLOPE + 1e-6
    metrics = steadiness(sharpness(clip), sharpness(tmp_path / "out.mkv"))
    # Five percentage points of sharpness: not visible from one frame to the next.
    assert metrics.flicker <= metrics.input_flicker + 0.05
    assert metrics.step <= metrics.input_step + 0.05


def test_a_pan_that_starts_is_faded_in(film, write_clip, tmp_path):
    """The strength does not jump from 0 to 1."""
    clip = write_clip(tmp_path / "start.mkv", pan(film, [0.1] * 6 + [6.0] * 6))
    report = deblur_video(clip, tmp_path / "out.mkv", config=KNOWN)
    strengths = [verdict.strength for verdict in report.verdicts]
    assert strengths[0] == 0
    assert strengths[-1] == 1
    assert max(abs(a - b) for a, b in pairwise(strengths)) <= MAX_SLOPE + 1e-6


def test_the_blur_of_frames_that_are_left_alone_is_told(film, write_clip, tmp_path):
    """Frames that pass unchanged are reported with their blur, not with 0 px."""
    strict = replace(KNOWN, gate=replace(Config().gate, local_blur=1.0, global_blur=1.0))
    clip = write_clip(tmp_path / "pan.mkv", pan(film, [6.0] * 5))
    report = deblur_video(clip, tmp_path / "out.mkv", config=strict)
    assert report.counts == {"passthrough": 5}
    assert [verdict.blur for verdict in report.verdicts] == pytest.approx([6 * SHUTTER] * 5, abs=1.5)


def test_little_time_goes_to_the_worst_frames(film, write_clip, tmp_path):
    """A pan that becomes faster, and time for a part of it: the fastest frames are deblurred."""
    clip = write_clip(tmp_path / "pan.mkv", pan(film, [2.0] * 8 + [9.0] * 8))
    limited = replace(KNOWN, budget=0.004)  # minutes; the initial estimate is 0.03 s per frame of this size
    report = deblur_video(clip, tmp_path / "out.mkv", config=limited)
    deblurred = [verdict.index for verdict in report.verdicts if verdict.strength > 0]
    assert len(deblurred) < 16
    assert all(index >= 5 for index in deblurred), "slow frames only where they fade in"
    skipped = [verdict for verdict in report.verdicts if "--budget" in verdict.reason]
    assert len(skipped) >= 5
