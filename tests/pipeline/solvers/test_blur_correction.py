from __future__ import annotations

import pytest
import torch
from torch import Tensor

from freezeframe.data.blur.operator import blur
from freezeframe.pipeline.solvers.blur_correction import (
    BlurCorrection,
    BlurCorrectionParams,
    fit_blur_correction,
)


@pytest.fixture
def turning() -> Tensor:
    """[2, H, W] pixels per frame of a camera that pans and rolls: a drift is no change of the shutter."""
    rows, columns = torch.meshgrid(torch.arange(96) - 47.5, torch.arange(128) - 63.5, indexing="ij")
    return torch.stack([6 - 0.15 * rows, 3 + 0.15 * columns])


@pytest.fixture
def sharp(film) -> Tensor:
    return film((0.0, 0.0), [0])[0]


@pytest.mark.parametrize(("guess", "truth"), [(0.6, 0.8), (0.8, 0.5)])
def test_a_wrong_shutter_is_put_right(guess, truth, sharp, turning):
    fitted = fit_blur_correction(sharp, blur(sharp, truth * turning), guess * turning, turning)
    # A hundredth of 8 px per frame is a twelfth of a pixel of blur.
    assert fitted.d_shutter == pytest.approx(truth - guess, abs=0.01)
    assert (fitted.dx, fitted.dy) == pytest.approx((0, 0), abs=0.1)


@pytest.mark.parametrize("drift", [(1.0, 0.0), (0.0, -1.0), (0.7, 0.7)])
def test_a_steady_drift_is_found(drift, sharp, turning):
    """A pixel of shake during the exposure, estimated to a tenth, with its sign."""
    blur_vector = 0.8 * turning
    shaken = blur_vector + torch.tensor(drift).view(2, 1, 1)
    fitted = fit_blur_correction(sharp, blur(sharp, shaken), blur_vector, turning)
    assert (fitted.dx, fitted.dy) == pytest.approx(drift, abs=0.1)
    assert fitted.d_shutter == pytest.approx(0, abs=0.01)


def test_both_at_once_in_noise(sharp, turning):
    shaken = 0.8 * turning + torch.tensor([1.0, -0.5]).view(2, 1, 1)
    frame = blur(sharp, shaken)
    frame = frame + 0.005 * torch.randn(frame.shape, generator=torch.Generator().manual_seed(0))
    fitted = fit_blur_correction(
        sharp, frame, 0.6 * turning, turning, params=BlurCorrectionParams(iterations=5)
    )
    assert (fitted.d_shutter, fitted.dx, fitted.dy) == pytest.approx((0.2, 1.0, -0.5), abs=0.15)


def test_an_occluded_corner_does_not_pull(sharp, turning):
    """A sixteenth of the frame is occluded: larger errors than any wrong blur vector causes."""
    frame = blur(sharp, 0.8 * turning)
    frame[:, :24, :32] = 0.9
    fitted = fit_blur_correction(
        sharp, frame, 0.6 * turning, turning, params=BlurCorrectionParams(iterations=5)
    )
    assert fitted.d_shutter == pytest.approx(0.2, abs=0.02)


def test_what_is_right_stays_right(sharp, turning):
    fitted = fit_blur_correction(sharp, blur(sharp, 0.8 * turning), 0.8 * turning, turning)
    assert (fitted.d_shutter, fitted.dx, fitted.dy) == pytest.approx((0, 0, 0), abs=0.01)


def test_never_worse_than_no_correction(sharp, turning):
    """Unrelated frames: the error after the fit is not above the error before."""
    other = sharp.flip(1).contiguous()
    blur_vector = 0.5 * turning

    def robust(correction: BlurCorrection) -> float:
        error = blur(sharp, correction.apply(blur_vector, turning)).sqrt() - other.sqrt()
        square = error[:, 4:-4, 4:-4].square()
        return float((square / (1 + square / 0.05**2)).mean())

    assert robust(fit_blur_correction(sharp, other, blur_vector, turning)) <= robust(BlurCorrection())


def test_flat_walls_say_nothing(turning):
    wall = torch.full((3, 96, 128), 0.4)
    fitted = fit_blur_correction(wall, wall, 0.5 * turning, turning)
    assert (fitted.d_shutter, fitted.dx, fitted.dy) == pytest.approx((0, 0, 0), abs=1e-3)


def test_corrections_add_to_ways_and_grow_with_the_picture(turning):
    correction = BlurCorrection(d_shutter=0.2, dx=1.0, dy=-2.0)
    bent = correction.apply(0.5 * turning, turning) - 0.7 * turning
    torch.testing.assert_close(bent, torch.tensor([1.0, -2.0]).view(2, 1, 1).expand_as(bent))
    # At twice the resolution velocity and drift are doubled; the shutter is the same.
    large = correction.rescale(2).apply(turning, 2 * turning)
    torch.testing.assert_close(large, 2 * correction.apply(0.5 * turning, turning))
