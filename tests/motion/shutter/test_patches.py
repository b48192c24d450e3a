"""Motion patches: registered in all three frames, with blur along their rows, independent of speed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from freezeframe.data.synthesis.scene2d.layered_scene import Layer, Scene
from freezeframe.data.synthesis.scene2d.motion import constant_velocity, translation
from freezeframe.data.types import Flow
from freezeframe.motion.shutter.patches import MotionPatches, PatchConfig, extract_patches

SHAPE = (160, 224)


def moving(*, speed: float, heading: float, shutter: float) -> list[MotionPatches]:
    """Patches of smooth noise in uniform motion, with exact flow."""
    noise = torch.from_numpy(np.random.default_rng(1).random((1, 1, 400, 460), np.float32))
    soft = torch.nn.functional.avg_pool2d(noise, 3, 1, 1)[0, 0]
    picture = ((soft - soft.mean()) / (4 * soft.std()) + 0.5).clamp(0, 1)
    texture = torch.stack([picture] * 3 + [torch.ones_like(picture)], dim=-1).numpy()
    dx, dy = speed * math.cos(heading), speed * math.sin(heading)
    scene = Scene(
        layers=(
            Layer(
                texture=texture,
                homography=lambda t: constant_velocity(dx, dy)(t) @ translation(-110, -110),
                mirrored=True,
            ),
        ),
        size=SHAPE,
    )
    images = torch.stack([scene.blurred(float(t), shutter=shutter) for t in range(3)])
    step = torch.tensor([dx, dy]).reshape(2, 1, 1).expand(2, *SHAPE)
    confidence = torch.ones(SHAPE)
    pairs = {(i, j): Flow(uv=(j - i) * step, confidence=confidence) for i in range(3) for j in (i - 1, i + 1)}
    return extract_patches(images, pairs)


def autocorrelation(rows: torch.Tensor, lag: int) -> float:
    """Correlation of samples `lag` apart along the last axis."""
    a, b = rows[..., lag:], rows[..., :-lag]
    return float((a * b).mean() / rows.square().mean())


@pytest.mark.parametrize("heading", [0.0, 0.7, 2.0, 4.4])
def test_the_three_frames_of_a_patch_are_registered(heading):
    (patches,) = moving(speed=6.0, heading=heading, shutter=0.5)
    previous, current, following = patches.pixels.unbind(1)
    for other in (previous, following):
        # Interpolation blurs each frame differently.
        assert float((other * current).mean() / current.square().mean()) > 0.95


@pytest.mark.parametrize("heading", [0.0, 0.7, 2.0, 4.4])
def test_blur_is_along_the_rows(heading):
    (patches,) = moving(speed=8.0, heading=heading, shutter=0.9)
    current = patches.pixels[:, 1]
    assert autocorrelation(current, 4) > autocorrelation(current.transpose(1, 2), 4) + 0.2


@pytest.mark.parametrize("shutter", [0.4, 0.9])
def test_blur_length_is_independent_of_speed(shutter):
    """Eight samples per frame interval, at ten pixels as at twenty."""
    (slow,), (fast,) = (moving(speed=speed, heading=0.3, shutter=shutter) for speed in (10.0, 20.0))
    for lag in (2, 4):
        # The texture is correlated over three pixels: fewer samples at twice the speed.
        assert autocorrelation(slow.pixels[:, 1], lag) == pytest.approx(
            autocorrelation(fast.pixels[:, 1], lag), abs=0.2
        )


def test_features_are_speed_and_acceleration():
    (patches,) = moving(speed=8.0, heading=1.0, shutter=0.3)
    assert torch.allclose(
        patches.features[:, 0], torch.zeros(len(patches.features)), atol=1e-4
    )  # log2(8) - 3
    assert torch.allclose(patches.features[:, 2:], torch.zeros(len(patches.features), 2), atol=1e-4)
    assert len(patches.features) == PatchConfig().max_patches


def test_patches_have_mean_zero():
    (patches,) = moving(speed=5.0, heading=0.0, shutter=0.5)
    assert torch.allclose(patches.pixels.mean((1, 2, 3)), torch.zeros(len(patches.pixels)), atol=1e-4)


def test_still_frames_and_frames_without_neighbours_have_no_patches():
    assert moving(speed=0.5, heading=0.0, shutter=0.5) == []
    assert extract_patches(torch.rand(2, 3, 64, 64), {}) == []
