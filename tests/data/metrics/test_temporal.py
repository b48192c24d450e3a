"""Figures of motion on scenes whose motion is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from freezeframe.data.blur.operator import blur
from freezeframe.data.metrics.aligned import align_to_truth, aligned_psnr_ssim
from freezeframe.data.metrics.image import psnr_srgb, rms_gradient, ssim_srgb
from freezeframe.data.metrics.temporal import reblur_consistency
from freezeframe.data.srgb import linear_to_srgb, srgb_to_linear
from freezeframe.data.types import Flow

SIZE = (48, 64)


@pytest.fixture(scope="module")
def wide() -> np.ndarray:
    """[H + 32, W + 32, 3] uint8: soft blobs of all sizes."""
    import cv2

    rng = np.random.default_rng(4)
    layers = [
        cv2.resize(rng.random((96 // k, 112 // k, 3)), (112, 96), interpolation=cv2.INTER_CUBIC)
        for k in (4, 8, 16)
    ]
    return (np.clip(np.mean(layers, axis=0), 0, 1) * 255).astype(np.uint8)


def view(wide: np.ndarray, dx: int, dy: int = 0) -> np.ndarray:
    """[H, W, 3] what a camera sees that moved by (dx, dy)."""
    return np.ascontiguousarray(wide[16 + dy : 16 + dy + SIZE[0], 16 + dx : 16 + dx + SIZE[1]])


def pan(dx: float, dy: float = 0.0) -> Flow:
    uv = torch.tensor([float(dx), float(dy)]).view(2, 1, 1).expand(2, *SIZE).contiguous()
    return Flow(uv=uv, confidence=torch.ones(SIZE))


def test_the_truth_blurs_back_to_the_input(wide: np.ndarray) -> None:
    """To the rounding of 8 bits (over 50 dB); another direction does not explain it."""
    truth, blur_vector = srgb_to_linear(view(wide, 0)), pan(9).uv
    blurred = srgb_to_linear(linear_to_srgb(blur(truth, blur_vector)))
    assert reblur_consistency(truth, blurred, blur_vector) > 50
    assert (
        reblur_consistency(truth, blurred, blur_vector)
        > reblur_consistency(blurred, blurred, blur_vector) + 6
    )
    assert reblur_consistency(truth, blurred, blur_vector.flip(0)) < 45


def test_sharpness_is_the_slope_of_a_ramp() -> None:
    """A ramp of 4 codes per pixel; its last and first columns, where the border repeats, are flatter."""
    ramp = np.repeat(np.arange(0, 240, 4, dtype=np.uint8)[None, :, None], 40, axis=0).repeat(3, axis=2)
    assert rms_gradient(ramp) == pytest.approx(4, rel=0.02)
    assert rms_gradient(ramp.transpose(1, 0, 2).copy()) == pytest.approx(4, rel=0.02)


def test_blur_lowers_sharpness(wide: np.ndarray) -> None:
    codes = view(wide, 0)
    assert rms_gradient(linear_to_srgb(blur(srgb_to_linear(codes), pan(9).uv))) < 0.9 * rms_gradient(codes)


def test_alignment_undoes_a_shift_and_a_dimming(wide: np.ndarray) -> None:
    """Two cameras, 2 px apart, one a tenth darker: as they are 25 dB at best, aligned over 38 dB."""
    truth = view(wide, 0)
    image = (view(wide, 2, -1) * 0.9).astype(np.uint8)
    assert psnr_srgb(image, truth) < 25
    decibel, similarity = aligned_psnr_ssim(image, truth)
    assert decibel > 38
    assert similarity > 0.98 > ssim_srgb(image, truth)
    _, valid = align_to_truth(image, truth)
    assert 0.9 < valid.mean() < 1, "a strip that only one camera saw does not count"


def test_alignment_leaves_an_aligned_picture_alone(wide: np.ndarray) -> None:
    """But for what noise makes of the homography: half a decibel in so small a picture."""
    noise = np.random.default_rng(1).normal(0, 4, (*SIZE, 3))
    truth = view(wide, 0)
    image = np.clip(truth + noise, 0, 255).astype(np.uint8)
    decibel, similarity = aligned_psnr_ssim(image, truth)
    assert decibel == pytest.approx(psnr_srgb(image, truth), abs=0.5)
    assert similarity == pytest.approx(ssim_srgb(image, truth), abs=0.02)


def test_nothing_to_align_by_is_compared_as_it_is() -> None:
    flat = np.full((*SIZE, 3), 100, np.uint8)
    assert aligned_psnr_ssim(flat, flat) == (float("inf"), pytest.approx(1))
