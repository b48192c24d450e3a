"""Global statistics of an image against the degradation that was applied to it."""

from __future__ import annotations

import pytest
import torch

from freezeframe.data.synthesis.degradations.compose import degrade
from freezeframe.models.deblur.image_statistics import (
    MAX_BLOCKINESS,
    MAX_NOISE,
    NUM_STATISTICS,
    image_statistics,
)


@pytest.fixture(scope="module")
def picture():
    """Two waves, dark to bright, and smooth."""
    y, x = torch.arange(136.0)[:, None], torch.arange(200.0)
    wave = 0.5 + 0.24 * torch.sin(x / 9 + y / 17) + 0.24 * torch.sin(y / 11)
    return (torch.stack([wave, wave**1.2, wave**0.9]) * 255).round() / 255


def statistics_of(picture):
    return dict(
        zip(
            ("darkest", "brightest", "noise", "blocks"),
            image_statistics(picture[None])[0].tolist(),
            strict=True,
        )
    )


@pytest.mark.parametrize("sigma", [5, 15, 25, 50])
def test_noise_is_told_in_its_own_measure(picture, sigma):
    noisy = picture * 0.4 + 0.3 + sigma / 255 * torch.randn(picture.shape, generator=torch.manual_seed(1))
    assert statistics_of(noisy)["noise"] ** 2 * MAX_NOISE * 255 == pytest.approx(sigma, rel=0.06)


def test_extremes_are_those_of_the_colours(picture):
    statistics = statistics_of(picture)
    assert statistics["darkest"] == pytest.approx(float(picture.min()), abs=0.05)
    assert statistics["brightest"] == pytest.approx(float(picture.max()), abs=0.05)


def test_noise_does_not_move_the_extremes(picture):
    noisy, plain = statistics_of(degrade(picture, "noise", seed=0, strength=0.5)), statistics_of(picture)
    assert abs(noisy["darkest"] - plain["darkest"]) < 0.05
    assert abs(noisy["brightest"] - plain["brightest"]) < 0.05


def test_haze_leaves_nothing_dark_and_darkness_nothing_bright(picture):
    assert (
        statistics_of(degrade(picture, "haze", seed=0, strength=0.5))["darkest"]
        > statistics_of(picture)["darkest"] + 0.2
    )
    assert (
        statistics_of(degrade(picture, "dark", seed=0, strength=0.5))["brightest"]
        < statistics_of(picture)["brightest"] - 0.3
    )


@pytest.mark.parametrize("transposed", [False, True])
def test_blocks_are_seen_and_only_where_they_begin_at_the_corner(picture, transposed):
    coded = degrade(picture, "jpeg", seed=0, strength=0.5)
    if transposed:
        coded = coded.mT
    assert statistics_of(coded)["blocks"] > 0.2
    assert statistics_of(coded[:, 4:, 4:])["blocks"] < 0.5 * statistics_of(coded)["blocks"]
    assert abs(statistics_of(picture)["blocks"]) < 0.02


def test_sides_are_alike(picture):
    """A flip of an image of whole blocks changes no statistic."""
    assert torch.allclose(image_statistics(picture[None]), image_statistics(picture.mT[None]), atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (9, 2), (8, 8), (17, 5)])
def test_any_size_and_any_batch_is_told(size):
    encoded = torch.rand(2, 3, *size)
    statistics = image_statistics(encoded)
    assert statistics.shape == (2, NUM_STATISTICS)
    assert torch.allclose(statistics[:1], image_statistics(encoded[:1]), atol=1e-6)
    assert statistics.isfinite().all()
    assert statistics[:, 3].abs().max() <= MAX_BLOCKINESS


def test_an_even_picture_shows_nothing():
    assert torch.allclose(
        image_statistics(torch.full((1, 3, 64, 64), 0.5)), torch.tensor([[0.5, 0.5, 0, 0]]), atol=1e-6
    )
