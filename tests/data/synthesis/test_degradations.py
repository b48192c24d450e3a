"""Degradations against the laws of optics, photon statistics and coding."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from freezeframe.data.color import SRGB, to_linear
from freezeframe.data.metrics.image import psnr_srgb
from freezeframe.data.synthesis.degradations.codec import compress_jpeg
from freezeframe.data.synthesis.degradations.compose import KINDS, degrade
from freezeframe.data.synthesis.degradations.psf import (
    convolve,
    disk_kernel,
    line_kernel,
    path_kernel,
    shake_kernel,
)
from freezeframe.data.synthesis.degradations.sensor import (
    gaussian_noise,
    shot_noise,
    simulate_low_light,
)
from freezeframe.data.synthesis.degradations.weather import haze, rain

ANGLES = st.floats(0, math.pi)
DEGRADATIONS = [kind for kind in KINDS if kind != "clean"]


def picture(side=48, *, seed=0):
    """Smooth colours with some noise, quantised to 8 bits."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(0.1, 0.9, (1, 3, side // 8, side // 8)).astype(np.float32))
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic")[0]
    grain = torch.from_numpy(rng.normal(0, 0.03, (3, side, side)).astype(np.float32))
    return ((smooth + grain).clamp(0, 1) * 255).round() / 255


def bytes_of(encoded):
    return (encoded * 255).round().byte().permute(1, 2, 0).numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_no_strength_is_no_change(kind):
    sharp = picture()
    assert torch.equal(degrade(sharp, kind, seed=3, strength=0.0), sharp)


@pytest.mark.parametrize("kind", KINDS)
def test_a_degradation_is_deterministic_and_leaves_its_input(kind):
    sharp = picture()
    before = sharp.clone()
    assert torch.equal(degrade(sharp, kind, seed=5), degrade(sharp, kind, seed=5))
    assert torch.equal(sharp, before)


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_another_seed_gives_another_degradation(kind):
    sharp = picture()
    assert not torch.equal(degrade(sharp, kind, seed=5), degrade(sharp, kind, seed=6))


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 2**31), strength=st.floats(0, 1))
def test_a_file_holds_whole_255ths_of_the_same_size(kind, seed, strength):
    sharp = picture(40)[:, :33]
    degraded = degrade(sharp, kind, seed=seed, strength=strength)
    assert degraded.shape == sharp.shape
    assert degraded.min() >= 0
    assert degraded.max() <= 1
    # Rounding of n / 255 in float32.
    assert (degraded * 255 - (degraded * 255).round()).abs().max() < 1e-4


@pytest.mark.parametrize(
    "kind", ["noise", "shot", "jpeg", "motion", "shake", "defocus", "rain", "haze", "dark"]
)
def test_more_is_worse(kind):
    """PSNR falls with strength."""
    sharp = picture(96)

    def fidelity(strength):
        each = [psnr_srgb(bytes_of(degrade(sharp, kind, seed=s, strength=strength)), bytes_of(sharp))
                for s in range(6)]  # fmt: skip
        return np.mean(each)

    assert fidelity(0.2) > fidelity(0.5) > fidelity(1.0)


@settings(max_examples=30, deadline=None)
@given(length=st.floats(0, 30), angle=ANGLES, seed=st.integers(0, 1000))
def test_kernels_keep_all_light_where_it_was(length, angle, seed):
    """They sum to one, with the centroid in the middle: blurred photo and truth share one pixel grid."""
    for kernel in (
        line_kernel(length, angle=angle),
        shake_kernel(length, seed=seed),
        disk_kernel(length / 6),
    ):
        reach = len(kernel) // 2
        at = torch.arange(-reach, reach + 1.0)
        assert kernel.min() >= 0
        assert abs(float(kernel.sum()) - 1) < 1e-5
        # A hundredth of a pixel: single precision, summed over some hundred samples.
        assert abs(float((kernel.sum(0) * at).sum())) < 0.01
        assert abs(float((kernel.sum(1) * at).sum())) < 0.01


@settings(max_examples=20, deadline=None)
@given(length=st.floats(1, 30), angle=ANGLES)
def test_a_line_is_as_long_and_as_slanted_as_it_says(length, angle):
    """A uniform distribution of length L has variance L^2 / 12; bilinear splatting adds at most 1 / 4."""
    kernel = line_kernel(length, angle=angle)
    reach = len(kernel) // 2
    y, x = torch.meshgrid(*[torch.arange(-reach, reach + 1.0)] * 2, indexing="ij")
    along, across = (
        float((kernel * (x * math.cos(a) + y * math.sin(a)) ** 2).sum()) for a in (angle, angle + math.pi / 2)
    )
    assert length**2 / 12 - 0.01 < along < length**2 / 12 + 0.3
    assert across < 0.3


def test_a_point_blurs_into_the_kernel_and_not_into_its_mirror_image():
    trajectory = np.array([[0.0, 1, 2, 3, 3, 3], [0.0, 0, 0, 0, 2, 4]])  # right, then down
    kernel = path_kernel(trajectory)
    linear = torch.zeros(3, 31, 31)
    linear[:, 15, 15] = 1
    reach = len(kernel) // 2
    blurred_point = convolve(linear, kernel)[0, 15 - reach : 16 + reach, 15 - reach : 16 + reach]
    assert (blurred_point - kernel).abs().max() < 1e-6
    assert not torch.allclose(kernel, kernel.flip(0, 1), atol=1e-3)


def test_a_blur_is_a_convolution():
    """Against the sum over shifted images, away from the border."""
    linear, kernel = torch.rand(3, 25, 25), shake_kernel(6.0, seed=4)
    reach = len(kernel) // 2
    naive = torch.zeros(3, 25 - 2 * reach, 25 - 2 * reach)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            part = linear[:, reach - dy : 25 - reach - dy, reach - dx : 25 - reach - dx]
            naive += kernel[reach + dy, reach + dx] * part
    assert (convolve(linear, kernel)[:, reach:-reach, reach:-reach] - naive).abs().max() < 1e-5


@pytest.mark.parametrize("kernel", [line_kernel(9, angle=0.4), shake_kernel(9, seed=1), disk_kernel(3)])
def test_a_constant_image_stays_constant(kernel):
    grey = torch.full((3, 20, 24), 0.3)
    assert (convolve(grey, kernel) - grey).abs().max() < 1e-6


def test_length_zero_and_radius_zero_are_no_blur():
    linear = torch.rand(3, 9, 9)
    for kernel in (line_kernel(0.0, angle=1.0), shake_kernel(0.0, seed=1), disk_kernel(0.0)):
        assert (convolve(linear, kernel) - linear).abs().max() < 1e-6


def test_a_disk_dims_a_wave_as_a_bessel_function_says():
    """A disk of radius r scales a wave of period p by 2 J1(z) / z, z = 2 pi r / p."""
    radius, period = 4.0, 16.0
    kernel = disk_kernel(radius)
    at = torch.arange(len(kernel)) - len(kernel) // 2
    contrast = float((kernel.sum(0) * torch.cos(2 * math.pi * at / period)).sum())
    z = 2 * math.pi * radius / period
    # The pixel aperture attenuates this wave by another 0.6 %.
    assert abs(contrast - 2 * float(torch.special.bessel_j1(torch.tensor(z))) / z) < 0.01


def test_gaussian_noise_has_its_sigma_and_no_bias():
    grey = torch.full((3, 128, 128), 0.5)
    noise = gaussian_noise(grey, sigma=25 / 255, seed=1) - grey
    # 49152 samples: the standard deviation is known to 0.3 %, the mean to half a thousandth.
    assert abs(float(noise.std()) * 255 / 25 - 1) < 0.02
    assert abs(float(noise.mean())) < 0.002


@pytest.mark.parametrize("level", [0.1, 0.4])
def test_photons_vary_in_proportion_to_light(level):
    linear = torch.full((3, 128, 128), level)
    variance = float((shot_noise(linear, strength=0.004, seed=1) - linear).var())
    assert abs(variance / (0.004 * level + 0.001**2) - 1) < 0.05


def test_a_low_quality_leaves_blocks_and_a_high_one_next_to_nothing():
    encoded = picture(64)

    def step_at(encoded, column):
        return float((encoded[:, :, column] - encoded[:, :, column - 1]).abs().mean())

    coarse = compress_jpeg(encoded, quality=5)
    on, off = (np.mean([step_at(coarse, c) for c in columns]) for columns in ((16, 32, 48), (20, 36, 52)))
    assert on > 2 * off
    assert (compress_jpeg(encoded, quality=100) - encoded).abs().mean() < 0.02


def test_darkness_takes_light_in_proportion():
    """The mean scales with the gain; noise has mean zero."""
    linear = picture(96) ** 2
    dark = simulate_low_light(linear, gain=0.2, seed=1)
    assert abs(float(dark.mean() / linear.mean()) - 0.2) < 0.005


def test_haze_only_ever_moves_light_towards_the_air():
    linear = picture(64) ** 2
    hazy = haze(linear, depth=1.5, seed=3)
    # At optical depth 50 there is air alone.
    air = haze(linear, depth=50.0, seed=3).mean((1, 2), keepdim=True)
    assert (((hazy - linear) * (air - linear)) >= -1e-4).all()
    assert (hazy - air).abs().mean() < (linear - air).abs().mean()
    assert torch.equal(haze(linear, depth=0.0, seed=3), linear)


def test_rain_brightens_a_dark_scene_along_its_streaks():
    """Streaks are almost vertical: vertical differences are smaller than horizontal ones."""
    dark = torch.zeros(3, 128, 128)
    rainy = rain(dark, amount=0.5, seed=2)[0]
    assert rainy.max() > 0.1
    assert rainy.diff(dim=0).abs().mean() < 0.5 * rainy.diff(dim=1).abs().mean()
    assert torch.equal(rain(dark, amount=0.0, seed=2), dark)


def test_motion_blur_keeps_light_and_not_codes():
    """The mean of black and white has half the light, which is code value 188, not 128."""
    stripes = torch.zeros(3, 64, 64)
    stripes[:, :, ::2] = 1
    stripes[:, ::2] = 1 - stripes[:, ::2]  # a chess board, which blur of any direction averages
    degraded = degrade(stripes, "motion", seed=1, strength=1.0)[:, 16:-16, 16:-16]
    assert abs(float(to_linear(degraded.mean(), SRGB)) - 0.5) < 0.03


@pytest.mark.parametrize("seed", range(4))
def test_uneven_damage_differs_from_place_to_place(seed):
    sharp = picture(128)
    error = (degrade(sharp, "uneven", seed=seed, strength=0.7) - sharp).square().mean(0)
    blocks = torch.nn.functional.avg_pool2d(error[None], 32)
    assert blocks.max() > 4 * blocks.min()
