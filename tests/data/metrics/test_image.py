"""Metrics against their definitions and scikit-image."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from freezeframe.data.color import SRGB, to_linear
from freezeframe.data.metrics.image import psnr, psnr_srgb, ssim_srgb, temporal_flicker


def textured(seed: int, size: tuple[int, int] = (40, 48)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def linear_of(encoded: float | Tensor) -> Tensor:
    """Linear light of 8-bit sRGB code values."""
    return to_linear(torch.as_tensor(encoded, dtype=torch.float32) / 255, SRGB)


@pytest.mark.parametrize(("step", "decibel"), [(1, 48.1308), (255, 0.0)])
def test_psnr_of_an_even_error_is_its_closed_form(step: int, decibel: float) -> None:
    black = np.zeros((16, 16, 3), np.uint8)
    assert psnr_srgb(black + np.uint8(step), black) == pytest.approx(decibel, abs=1e-3)


def test_psnr_of_a_picture_with_itself_is_infinite() -> None:
    assert psnr_srgb(textured(0), textured(0)) == math.inf


def test_psnr_of_light_is_taken_on_its_srgb_codes() -> None:
    a, b = linear_of(127.0).expand(3, 16, 16), linear_of(129.0).expand(3, 16, 16)
    assert psnr(a, b) == pytest.approx(10 * math.log10(255**2 / 4), abs=1e-6)


def naive_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Wang et al. 2004, window by window."""
    line = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = (np.outer(line, line) / line.sum() ** 2)[..., None]
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for y in range(a.shape[0] - 10):
        for x in range(a.shape[1] - 10):
            p, q = (image[y : y + 11, x : x + 11].astype(float) for image in (a, b))
            mp, mq = (window * p).sum((0, 1)), (window * q).sum((0, 1))
            vp, vq = (window * (p - mp) ** 2).sum((0, 1)), (window * (q - mq) ** 2).sum((0, 1))
            cov = (window * (p - mp) * (q - mq)).sum((0, 1))
            values.append((2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
    return float(np.mean(values))


def test_ssim_equals_its_definition() -> None:
    a = textured(1, (18, 20))
    noise = np.random.default_rng(2).normal(0, 30, a.shape)
    b = np.clip(a + noise, 0, 255).astype(np.uint8)
    assert ssim_srgb(a, b) == pytest.approx(naive_ssim(a, b), abs=1e-6)


@pytest.mark.parametrize("sigma", [2.0, 20.0, 80.0])
def test_psnr_and_ssim_agree_with_scikit_image(sigma: float) -> None:
    """To rounding: both are float64."""
    metrics = pytest.importorskip("skimage.metrics")
    truth = textured(3, (64, 80))
    noise = np.random.default_rng(4).normal(0, sigma, truth.shape)
    image = np.clip(truth + noise, 0, 255).astype(np.uint8)
    reference = metrics.peak_signal_noise_ratio(truth, image, data_range=255)
    assert psnr_srgb(image, truth) == pytest.approx(reference, abs=1e-9)
    similarity = metrics.structural_similarity(
        truth,
        image,
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
    )
    assert ssim_srgb(image, truth) == pytest.approx(similarity, abs=1e-9)


def test_a_fade_does_not_flicker_and_a_blinking_lamp_does() -> None:
    fade = torch.linspace(20, 220, 8)[:, None, None, None].expand(8, 3, 32, 32)
    steady = linear_of(fade.clone())
    blinking = steady.clone()
    blinking[3] *= 0.8
    assert temporal_flicker(steady) < 0.01
    assert temporal_flicker(blinking) > 5


def test_pictures_of_differing_size_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in size"):
        psnr_srgb(textured(0), textured(0, (40, 50)))


def test_an_image_with_nan_has_no_score() -> None:
    """The cast to uint8 would make NaN black, equal to a black truth."""
    with pytest.raises(ValueError, match="NaN"):
        psnr(torch.full((3, 16, 16), math.nan), torch.zeros(3, 16, 16))


def test_images_too_small_or_too_few_are_refused() -> None:
    with pytest.raises(ValueError, match="11x11"):
        ssim_srgb(textured(0, (10, 40)), textured(1, (10, 40)))
    for shape in ((2, 3, 32, 32), (4, 3, 15, 32)):
        with pytest.raises(ValueError, match="3 frames"):
            temporal_flicker(torch.rand(shape, generator=torch.Generator().manual_seed(0)))
