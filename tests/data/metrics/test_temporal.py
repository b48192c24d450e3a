"""RMS gradient and re-blur consistency on images with known blur."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from freezeframe.data.blur.operator import blur
from freezeframe.data.metrics.image import rms_gradient
from freezeframe.data.metrics.temporal import reblur_consistency
from freezeframe.data.srgb import linear_to_srgb, srgb_to_linear
from freezeframe.data.types import Flow

SIZE = (48, 64)


@pytest.fixture(scope="module")
def wide() -> np.ndarray:
    """[H + 32, W + 32, 3] uint8: smooth noise at several scales."""
    import cv2

    rng = np.random.default_rng(4)
    layers = [
        cv2.resize(rng.random((96 // k, 112 // k, 3)), (112, 96), interpolation=cv2.INTER_CUBIC)
        for k in (4, 8, 16)
    ]
    return (np.clip(np.mean(layers, axis=0), 0, 1) * 255).astype(np.uint8)


def view(wide: np.ndarray, dx: int, dy: int = 0) -> np.ndarray:
    """[H, W, 3] image of a camera translated by (dx, dy)."""
    return np.ascontiguousarray(wide[16 + dy : 16 + dy + SIZE[0], 16 + dx : 16 + dx + SIZE[1]])


def pan(dx: float, dy: float = 0.0) -> Flow:
    uv = torch.tensor([float(dx), float(dy)]).view(2, 1, 1).expand(2, *SIZE).contiguous()
    return Flow(uv=uv, confidence=torch.ones(SIZE))


def test_the_truth_blurs_back_to_the_input(wide: np.ndarray) -> None:
    """To 8-bit rounding (over 50 dB); below 45 dB with another direction."""
    truth, blur_vector = srgb_to_linear(view(wide, 0)), pan(9).uv
    blurred = srgb_to_linear(linear_to_srgb(blur(truth, blur_vector)))
    assert reblur_consistency(truth, blurred, blur_vector) > 50
    assert (
        reblur_consistency(truth, blurred, blur_vector)
        > reblur_consistency(blurred, blurred, blur_vector) + 6
    )
    assert reblur_consistency(truth, blurred, blur_vector.flip(0)) < 45


def test_sharpness_is_the_slope_of_a_ramp() -> None:
    """A ramp of 4 code values per pixel; the replicated border makes its first and last columns flatter."""
    ramp = np.repeat(np.arange(0, 240, 4, dtype=np.uint8)[None, :, None], 40, axis=0).repeat(3, axis=2)
    assert rms_gradient(ramp) == pytest.approx(4, rel=0.02)
    assert rms_gradient(ramp.transpose(1, 0, 2).copy()) == pytest.approx(4, rel=0.02)


def test_blur_lowers_sharpness(wide: np.ndarray) -> None:
    image = view(wide, 0)
    assert rms_gradient(linear_to_srgb(blur(srgb_to_linear(image), pan(9).uv))) < 0.9 * rms_gradient(image)
