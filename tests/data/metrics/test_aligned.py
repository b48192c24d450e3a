"""Metrics after alignment, on images with known shift and gain."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from freezeframe.data.metrics.aligned import align_to_truth, aligned_psnr_ssim
from freezeframe.data.metrics.image import psnr_srgb, ssim_srgb

SIZE = (48, 64)


@pytest.fixture(scope="module")
def wide() -> np.ndarray:
    """[H + 32, W + 32, 3] uint8: smooth noise at several scales."""
    rng = np.random.default_rng(4)
    layers = [
        cv2.resize(rng.random((96 // k, 112 // k, 3)), (112, 96), interpolation=cv2.INTER_CUBIC)
        for k in (4, 8, 16)
    ]
    return (np.clip(np.mean(layers, axis=0), 0, 1) * 255).astype(np.uint8)


def view(wide: np.ndarray, dx: int, dy: int = 0) -> np.ndarray:
    """[H, W, 3] image of a camera translated by (dx, dy)."""
    return np.ascontiguousarray(wide[16 + dy : 16 + dy + SIZE[0], 16 + dx : 16 + dx + SIZE[1]])


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
