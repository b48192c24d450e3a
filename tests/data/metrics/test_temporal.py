"""Aligned metrics, gradient and re-blur consistency on images with known shift and blur."""

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


def test_alignment_undoes_a_shift_and_a_dimming(wide: np.ndarray) -> None:
    """Two cameras, 2 px apart, one a tenth darker: below 25 dB without alignment, over 38 dB with it."""
    truth = view(wide, 0)
    image = (view(wide, 2, -1) * 0.9).astype(np.uint8)
    assert psnr_srgb(image, truth) < 25
    decibel, similarity = aligned_psnr_ssim(image, truth)
    assert decibel > 38
    assert similarity > 0.98 > ssim_srgb(image, truth)
    _, valid = align_to_truth(image, truth)
    assert 0.9 < valid.mean() < 1, "the strip outside the overlap is excluded"


def test_alignment_leaves_an_aligned_picture_alone(wide: np.ndarray) -> None:
    """To half a decibel, the effect of noise on the homography of so small an image."""
    noise = np.random.default_rng(1).normal(0, 4, (*SIZE, 3))
    truth = view(wide, 0)
    image = np.clip(truth + noise, 0, 255).astype(np.uint8)
    decibel, similarity = aligned_psnr_ssim(image, truth)
    assert decibel == pytest.approx(psnr_srgb(image, truth), abs=0.5)
    assert similarity == pytest.approx(ssim_srgb(image, truth), abs=0.02)


def test_nothing_to_align_by_is_compared_as_it_is() -> None:
    flat = np.full((*SIZE, 3), 100, np.uint8)
    assert aligned_psnr_ssim(flat, flat) == (float("inf"), pytest.approx(1))
