"""Reduced pictures and gray levels agree with the conversion of whole pictures."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d

from freezeframe.data.media.video_in.frame_picture import VideoPicture, frame_from_linear
from freezeframe.data.media.video_in.reduced import gray_levels, reduced_linear


def soft_image(size: tuple[int, int]) -> torch.Tensor:
    noise = np.random.default_rng(0).random((*size, 3)).astype(np.float32)
    return torch.from_numpy(0.1 + 0.6 * cv2.GaussianBlur(noise, (0, 0), 6)).permute(2, 0, 1)


@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_a_reduced_picture_is_the_mean_of_its_blocks(depth, factor):
    """To 2 % of the range, by the rounding of 8-bit chroma: soft detail keeps its mean.

    720 lines: at half the height, an untagged file would be taken for BT.601.
    """
    picture = VideoPicture(frame_from_linear(soft_image((720, 96)), depth=depth))
    expected = avg_pool2d(picture.linear(), factor)
    reduced = reduced_linear(picture, factor)
    assert reduced.shape == expected.shape
    assert (reduced - expected)[:, 2:-2, 2:-2].abs().max() < 0.02


@pytest.mark.parametrize("depth", [8, 10])
def test_gray_levels_are_the_light_of_gray_pictures(depth):
    """To one 8-bit code value."""
    ramp = torch.linspace(0, 1, 64).expand(3, 16, 64)
    picture = VideoPicture(frame_from_linear(ramp, depth=depth))
    levels = gray_levels(picture.spec)
    light = levels[picture.luma().long()]
    assert (light.sqrt() - picture.linear()[1].sqrt()).abs().max() < 0.02
    assert (levels.diff() >= 0).all()
