"""Deblurring all frames of a shot: sharper where blurred, else identical."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

from freezeframe.data.metrics.image import psnr
from freezeframe.motion.flow.estimators import dis_pair
from freezeframe.pipeline.config import Config
from freezeframe.pipeline.stages.flows import adjacent_flows
from freezeframe.pipeline.tasks.scene.sharpen_shot import sharpen_shot

VELOCITY, SHUTTER = (12, 3), 0.7
TIMES = range(-2, 3)


def sharpen(images, shutter):
    times = [Fraction(k, 24) for k in range(len(images))]
    return sharpen_shot(images, times, adjacent_flows(images, dis_pair), shutter=shutter, config=Config())


@pytest.fixture(scope="module")
def frame_pair(film):
    return film(VELOCITY, TIMES, shutter=SHUTTER), film(VELOCITY, TIMES)


def test_blurred_frames_come_closer_to_the_truth(frame_pair):
    blurred, sharp = frame_pair
    result = sharpen(blurred, SHUTTER)
    gains = [psnr(a, truth) - psnr(b, truth) for a, b, truth in zip(result.full, blurred, sharp, strict=True)]
    assert torch.equal(result.full, result.gated)
    assert min(gains) > 1


def test_frames_that_are_not_blurred_are_the_very_same(frame_pair):
    result = sharpen(frame_pair[1], 0.02)
    assert torch.equal(result.gated, frame_pair[1])
    assert min(psnr(a, b) for a, b in zip(result.full, frame_pair[1], strict=True)) > 35
