"""Wiener deconvolution: identity without blur, close for a known PSF, a lower gain for an uncertain one."""

from __future__ import annotations

import math

import pytest
import torch

from freezeframe.data.color import SRGB, to_encoded, to_linear
from freezeframe.data.synthesis.degradations.psf import convolve, disk_kernel, line_kernel
from freezeframe.models.deblur.psf_estimator import LAGS, MAX_OFFSET, NUM_RADII, RADIUS_STEP
from freezeframe.models.deblur.wiener import NOISES, transfer_moments, wiener_candidates


def certain(offsets, radius=0.0):
    """Log-probabilities: equal for these offsets (y, x) and their opposites; one radius."""
    log_p, radii = torch.full((1, LAGS, LAGS), -40.0), torch.full((1, NUM_RADII), -40.0)
    for y, x in offsets:
        log_p[0, MAX_OFFSET + y, MAX_OFFSET + x] = log_p[0, MAX_OFFSET - y, MAX_OFFSET - x] = -math.log(
            2 * len(offsets)
        )
    radii[0, round(radius / RADIUS_STEP)] = 0
    return log_p, radii


def scenery(size=(96, 120)):
    random = torch.Generator().manual_seed(1)
    coarse = torch.rand(1, 3, size[0] // 4, size[1] // 4, generator=random)
    return torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0.05, 0.95)


def test_nothing_is_added_where_nothing_was_blurred():
    assert wiener_candidates(scenery(), *certain([(0, 0)])).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("kernel", "blur"),
    [
        (line_kernel(9.0, angle=0), certain([(0, 9)])),
        (line_kernel(10.0, angle=math.atan2(8, 6)), certain([(8, 6)])),
        (disk_kernel(2.5), certain([(0, 0)], 2.5)),
    ],
)
def test_a_known_blur_is_undone(kernel, blur):
    truth = scenery((200, 240))
    worse = to_encoded(convolve(to_linear(truth[0], SRGB), kernel), SRGB)[None]
    inside = (..., slice(50, -50), slice(50, -50))  # without the border, beyond which the scene is unknown
    errors = [
        (answer - truth)[inside].square().mean()
        for answer in (worse, *(worse + change for change in wiener_candidates(worse, *blur).split(3, dim=1)))
    ]
    assert min(errors[1:]) < errors[0] / 3


@pytest.mark.parametrize(("offset", "radius"), [((0, 9), 0.0), ((6, -8), 0.0), ((0, 0), 2.5)])
def test_transfer_functions_are_those_of_the_kernels(offset, radius):
    length, angle = math.hypot(*offset), math.atan2(*offset)
    kernel = disk_kernel(radius) if radius else line_kernel(length, angle=angle)
    place = torch.zeros(64, 64)
    place[: len(kernel), : len(kernel)] = kernel
    drawn = torch.fft.rfft2(place.roll(2 * (-(len(kernel) // 2),), (0, 1))).real
    y, x = torch.fft.fftfreq(64)[:, None], torch.fft.rfftfreq(64)
    mean, square = transfer_moments(y, x, *certain([offset], radius))
    low = torch.hypot(*torch.broadcast_tensors(y, x)) < 0.12  # drawn between pixels, the fine ones are softer
    assert (mean[0] - drawn)[low].abs().max() < 0.05
    assert torch.allclose(square, mean.square(), atol=1e-5)


def test_doubt_makes_it_gentle():
    truth = scenery()
    sure, unsure = (
        wiener_candidates(truth, *certain(offsets))
        for offsets in ([(0, 9)], [(0, 9), (9, 0), (0, 0), (4, 4)])
    )
    assert unsure.square().mean() < 0.5 * sure.square().mean()


@pytest.mark.parametrize("size", [(1, 1), (5, 200), (33, 34)])
def test_any_size_is_undone(size):
    change = wiener_candidates(torch.rand(1, 3, *size), *certain([(3, 4)]))
    assert change.shape == (1, 3 * len(NOISES), *size)
    assert change.isfinite().all()
