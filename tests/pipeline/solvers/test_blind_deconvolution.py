"""Known kernels, estimated from images."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from freezeframe.data.synthesis.demo.bookshelf import bookshelf
from freezeframe.pipeline.solvers.blind_deconvolution import (
    AlignedBurst,
    BlindDeconvolutionParams,
    blind_deconvolve,
    blur_with,
    estimate_kernels,
    kernel_information,
    mtf_max,
)

SIDE = 15


@pytest.fixture(scope="module")
def picture() -> Tensor:
    """Lettering and edges, with nothing at its borders that could wrap around."""
    shelf = bookshelf(160, 144, seed=4)
    rim = torch.zeros(144, 160)
    rim[20:-20, 20:-20] = 1
    return (shelf - shelf.mean((1, 2), keepdim=True)) * rim


def strokes() -> Tensor:
    """[5, SIDE, SIDE] straight and bent strokes of 5 to 9 pixels around the middle."""
    kernels = torch.zeros(5, SIDE, SIDE)
    middle = SIDE // 2
    for k in range(-4, 5):
        kernels[0, middle, middle + k] = 1
        kernels[1, middle + k, middle] = 1
        kernels[2, middle + k, middle + k] = float(abs(k) < 4)
        kernels[3, middle - abs(k) // 2 + 1, middle + k] = 1
        kernels[4, middle + k, middle - k] = float(abs(k) < 3)
    return kernels / kernels.sum((1, 2), keepdim=True)


def test_kernels_are_read_off_a_sharp_picture_and_its_blurred_copies(picture: Tensor) -> None:
    """Least squares of exact data gives exact kernels, but for the ridge of one in a hundred."""
    truth = strokes()
    estimated = estimate_kernels(
        picture,
        blur_with(picture, truth),
        torch.zeros_like(truth),
        reference_information=kernel_information(picture),
    )
    assert torch.allclose(estimated.sum((1, 2)), torch.ones(len(truth)))
    assert (estimated >= 0).all()
    # Half the weight of one pixel of a nine-pixel stroke.
    assert (estimated - truth).abs().max() < 0.5 / 9


def test_a_kernel_points_where_the_picture_moved(picture: Tensor) -> None:
    """A copy two pixels to the right and one up has its kernel there, not at the mirrored place."""
    moved = picture.roll((-1, 2), (1, 2))[None]
    kernel = estimate_kernels(
        picture, moved, torch.zeros(1, SIDE, SIDE), reference_information=kernel_information(picture)
    )[0]
    assert divmod(int(kernel.argmax()), SIDE) == (SIDE // 2 - 1, SIDE // 2 + 2)


def test_without_texture_the_first_guess_stays() -> None:
    guess = strokes()[:2]
    flat = torch.zeros(3, 64, 64)
    estimated = estimate_kernels(flat, flat.expand(2, -1, -1, -1), guess, reference_information=1e-3)
    # Gradient descent on a well-conditioned problem: float32 rounding.
    assert torch.allclose(estimated, guess, atol=1e-4)


def test_blind_kernels_and_picture_improve_on_every_photo(picture: Tensor) -> None:
    """Five strokes of different headings leave no frequency unseen: the picture gains 6 dB on the best."""
    level = 0.4
    photos = blur_with(picture, strokes()) + level
    noisy = photos + 0.004 * torch.randn(photos.shape, generator=torch.Generator().manual_seed(1))
    aligned = AlignedBurst(
        linear=noisy, consistency=torch.ones(len(photos), 144, 160), reference=4, noise=0.004
    )
    start = noisy.mean(0)
    sharp, kernels = blind_deconvolve(
        aligned,
        start,
        torch.zeros(len(photos), SIDE, SIDE),
        reference_information=kernel_information(start),
        params=BlindDeconvolutionParams(rounds=12),
    )
    inner = (..., slice(30, -30), slice(30, -30))

    def decibels(image: Tensor) -> float:
        return -10 * math.log10(float((image - picture - level)[inner].square().mean()))

    assert decibels(sharp) > max(decibels(photo) for photo in noisy) + 6
    assert torch.allclose(kernels.sum((1, 2)), torch.ones(len(photos)), atol=1e-5)


def test_what_a_photo_does_not_show_is_told_by_the_others(picture: Tensor) -> None:
    """A white bar over one photo, known to be one, leaves next to no trace."""
    level = 0.4
    photos = blur_with(picture, strokes()) + level
    consistency = torch.ones(len(photos), 144, 160)
    covered = photos.clone()
    covered[1, :, 60:76], consistency[1, 60:76] = 1.0, 0.0
    blank = torch.zeros(len(photos), SIDE, SIDE)

    def solved(linear: Tensor) -> Tensor:
        aligned = AlignedBurst(linear=linear, consistency=consistency, reference=4, noise=0.002)
        return blind_deconvolve(
            aligned, photos.mean(0), blank, reference_information=kernel_information(picture)
        )[0]

    difference = (solved(covered) - solved(photos))[:, 30:-30, 30:-30].abs().amax()
    # The mean level alone knows of the bar, and that cancels: float32 through twenty transforms.
    assert difference < 0.02


def test_a_photo_without_blur_keeps_every_frequency() -> None:
    point = torch.zeros(1, SIDE, SIDE)
    point[0, SIDE // 2, SIDE // 2] = 1
    like = torch.zeros(3, 64, 64)
    assert mtf_max(point, like) == pytest.approx(1)
    assert mtf_max(strokes()[:1], like) < 0.5
    assert mtf_max(torch.cat([point, strokes()[:1]]), like) == pytest.approx(1)
