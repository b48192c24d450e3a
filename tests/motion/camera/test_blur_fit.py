"""The fit of a turning camera's blur: it finds the field through noise, of either sign, and stillness."""

from __future__ import annotations

import pytest
import torch

from freezeframe.models.deblur.local_psf import LocalPsfs
from freezeframe.models.deblur.psf_estimator import LAGS, MAX_OFFSET, NUM_RADII
from freezeframe.motion.camera.blur_fit import CameraBlur, camera_basis, fit_camera_blur

SIZE = (200, 300)  # pixels


def seen(vectors, position, *, wrong=0.0, seed=0):
    """Windows that see `vectors` [2, N] as two peaks of opposite signs, but for a share with random ones."""
    generator = torch.Generator().manual_seed(seed)
    lost = torch.rand(vectors.shape[1], generator=generator) < wrong
    noise = 30 * torch.rand(vectors.shape, generator=generator) - 15
    vectors = torch.where(lost, noise, vectors)
    lags = torch.arange(LAGS) - MAX_OFFSET
    peaks = [
        torch.exp(-(lags[:, None] - sign * y).square() - (lags - sign * x).square())
        for x, y in vectors.T
        for sign in (1, -1)
    ]
    offsets = torch.stack(peaks).view(-1, 2, LAGS, LAGS).amax(1)
    radii = torch.zeros(len(offsets), NUM_RADII)
    return LocalPsfs(offsets=offsets, radii=radii, position=position, reduction=1)


def positions():
    y, x = torch.meshgrid(torch.arange(20.0, 200, 40), torch.arange(20.0, 300, 40), indexing="ij")
    return torch.stack([x.flatten(), y.flatten()])


@pytest.mark.parametrize(
    "parameters",
    [(6.0, 2.0, 0, 0, 0, 0), (3.0, -4.0, 5.0, 0, 0, 0), (0.0, 0, 8.0, 3.0, 0, 0), (7.0, 1.0, 0, 0, 2.0, 0)],
)
def test_a_field_is_found_though_every_third_window_errs(parameters):
    truth = CameraBlur(parameters=torch.tensor(parameters), score=0.0, still_score=0.0)
    at = positions()
    found = fit_camera_blur([seen(truth.at(at, SIZE), at, wrong=0.33)], SIZE)
    a, b = found.vectors(SIZE, step=4), truth.vectors(SIZE, step=4)
    error = min((a - b).norm(dim=0).mean(), (a + b).norm(dim=0).mean())
    assert float(error) < 0.5
    assert found.gain > 1


def test_windows_that_see_nothing_are_a_still_camera():
    at = positions()
    found = fit_camera_blur([seen(torch.zeros_like(at), at, wrong=0.2)], SIZE)
    assert found.gain == pytest.approx(0, abs=0.05)
    assert float(found.vectors(SIZE, step=4).norm(dim=0).max()) < 0.5


def test_roll_turns_about_the_middle_of_the_picture():
    position = torch.tensor([[149.5, 149.5], [99.5, 199.5]])  # the middle, and the end of its column
    basis = camera_basis(position, SIZE)
    assert torch.equal(basis[2], torch.tensor([[0.0, -2 / 3], [0.0, 0.0]]))
    assert torch.equal(basis[3], torch.tensor([[0.0, 0.0], [0.0, 2 / 3]]))
