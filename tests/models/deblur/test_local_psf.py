"""Local blur: the PSF estimator sees in small windows the blur that is there, and none where none is."""

from __future__ import annotations

import math

import pytest
import torch

from freezeframe.data.synthesis.degradations.psf import line_kernel
from freezeframe.models.deblur.local_psf import WindowGrid, local_psfs, log_probability
from freezeframe.models.registry.bundled import read_psf_estimator

from .test_psf_estimator import landscape, moved


def within(found, vector, pixels):
    """[N] whether vectors [2, N] are near `vector`, of either sign."""
    truth = torch.tensor(vector)[:, None]
    return torch.minimum((found - truth).norm(dim=0), (found + truth).norm(dim=0)) < pixels


@pytest.mark.parametrize("grid", [WindowGrid(side=64, step=64), WindowGrid(side=96, step=64)])
def test_small_windows_see_even_blur(grid):
    blurred = moved(landscape(), line_kernel(9, angle=0.5))
    found = local_psfs(read_psf_estimator(), blurred, grid)
    near = within(found.likeliest(), (9 * math.cos(0.5), 9 * math.sin(0.5)), 1.5)
    assert float(near.float().mean()) > 0.7


def test_a_reduced_picture_shows_blur_beyond_the_range_of_the_estimator():
    blurred = moved(landscape((384, 384)), line_kernel(31, angle=1.2))
    found = local_psfs(read_psf_estimator(), blurred, WindowGrid(side=128, reduction=2, step=64))
    assert float(within(found.likeliest(), (31 * math.cos(1.2), 31 * math.sin(1.2)), 3).float().mean()) > 0.7


def test_windows_of_a_sharp_picture_see_none():
    found = local_psfs(read_psf_estimator(), landscape(seed=4), WindowGrid(side=64, step=64))
    assert float((found.likeliest().norm(dim=0) == 0).float().mean()) > 0.9


def test_windows_lie_evenly_and_not_beyond_the_picture():
    found = local_psfs(read_psf_estimator(), landscape((130, 190)), WindowGrid(side=64, step=32))
    x, y = found.position
    assert (float(x.min()), float(x.max())) == (31.5, 190 - 32.5)
    assert (float(y.min()), float(y.max())) == (31.5, 130 - 32.5)
    assert found.offsets.shape == (len(x), 49, 49)
    assert local_psfs(read_psf_estimator(), landscape((60, 190)), WindowGrid(side=64)) is None


def test_probabilities_have_no_sign():
    found = local_psfs(read_psf_estimator(), landscape(), WindowGrid(side=96, step=96))
    vectors = 20 * torch.rand(len(found.offsets), 7, 2, generator=torch.Generator().manual_seed(0)) - 10
    there, back = (log_probability(found, sign * vectors, floor=1e-3) for sign in (1, -1))
    assert torch.allclose(there, back, atol=1e-3)
    assert float(there.min()) >= math.log(1e-3)
