"""PSF estimation: peaks of the cepstrum lie where theory puts them, and outputs are probabilities."""

from __future__ import annotations

import math

import pytest
import torch

from freezeframe.data.color import SRGB, to_encoded, to_linear
from freezeframe.data.synthesis.degradations.psf import convolve, disk_kernel, line_kernel
from freezeframe.models.deblur.psf_estimator import (
    LAGS,
    MAX_OFFSET,
    NUM_RADII,
    RADIUS_STEP,
    PsfEstimator,
    cepstrum,
)
from freezeframe.models.registry.bundled import PSF_ESTIMATOR, read_psf_estimator, verify


def grain(size=(200, 260), *, seed=0):
    """White noise about mid grey: its cepstrum has no peaks."""
    random = torch.Generator().manual_seed(seed)
    return (0.4 + 0.1 * torch.randn(3, *size, generator=random)).clamp(0, 1)


def landscape(size=(256, 256), *, seed=0):
    """Like photographs: amplitudes fall as one over frequency."""
    random = torch.Generator().manual_seed(seed)
    noise = torch.fft.rfft2(torch.randn(1, *size, generator=random))
    y, x = torch.fft.fftfreq(size[0])[:, None], torch.fft.rfftfreq(size[1])
    texture = torch.fft.irfft2(
        noise / torch.hypot(*torch.broadcast_tensors(y, x)).clamp_min(1 / size[0]), s=size
    )
    return (0.45 + 0.15 * texture / texture.std()).clamp(0, 1).expand(3, -1, -1)


def moved(encoded, kernel):
    return to_encoded(convolve(to_linear(encoded, SRGB), kernel).clamp(0, 1), SRGB)


@pytest.mark.parametrize(("length", "angle"), [(6, 0.0), (9, math.pi / 2), (10, 0.6435)])
def test_a_line_leaves_its_deepest_echo_at_its_end(length, angle):
    echoes = cepstrum(moved(grain(), line_kernel(length, angle=angle))[None])[0]
    far = torch.hypot(*torch.meshgrid(*2 * [torch.arange(LAGS).float() - MAX_OFFSET], indexing="ij")) > 3
    at = int(echoes.masked_fill(~far, 0).argmin())
    y, x = at // LAGS - MAX_OFFSET, at % LAGS - MAX_OFFSET
    expected_offset = torch.tensor([length * math.sin(angle), length * math.cos(angle)])
    off = min((torch.tensor([y, x]) - sign * expected_offset).norm() for sign in (1, -1))
    assert off < 1.5


def test_echoes_are_alike_from_both_sides_and_turn_with_the_picture():
    encoded = torch.rand(1, 3, 150, 190)
    echoes = cepstrum(encoded)
    assert echoes.shape == (1, LAGS, LAGS)
    assert torch.allclose(echoes, echoes.flip(1, 2), atol=1e-5)
    assert torch.allclose(cepstrum(encoded.flip(3)), echoes.flip(2), atol=1e-4)
    assert torch.allclose(cepstrum(encoded.transpose(2, 3)), echoes.transpose(1, 2), atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (40, 300), (128, 128), (129, 500)])
def test_any_size_has_echoes(size):
    assert cepstrum(torch.rand(2, 3, *size)).isfinite().all()


def test_answers_are_probabilities_and_ways_go_both_ways():
    offsets, radii = PsfEstimator()(torch.randn(2, LAGS, LAGS))
    assert torch.allclose(offsets.exp().sum((1, 2)), torch.ones(2))
    assert torch.equal(offsets, offsets.flip(1, 2))
    assert torch.allclose(radii.exp().sum(1), torch.ones(2))
    assert radii.shape == (2, NUM_RADII)


@pytest.mark.parametrize(("length", "angle"), [(5, 0.3), (9, 2.0), (14, 1.2)])
def test_the_shipped_one_tells_lines_of_a_picture_it_never_saw(length, angle):
    log_probabilities, _ = read_psf_estimator()(
        cepstrum(moved(landscape(seed=3), line_kernel(length, angle=angle))[None])
    )
    at = int(log_probabilities[0].argmax())
    y, x = at // LAGS - MAX_OFFSET, at % LAGS - MAX_OFFSET
    assert abs(math.hypot(y, x) - length) < 1.5
    assert abs(math.sin(math.atan2(y, x) - angle)) * length < 1.5


def test_the_shipped_one_tells_disks_and_that_nothing_is_wrong():
    estimator = read_psf_estimator()
    radii = RADIUS_STEP * torch.arange(NUM_RADII)
    for radius in (2.0, 3.5):
        _, log_probabilities = estimator(cepstrum(moved(landscape(seed=4), disk_kernel(radius))[None]))
        assert float((log_probabilities.exp() @ radii)[0]) == pytest.approx(radius, abs=0.75)
    offsets, log_probabilities = estimator(cepstrum(landscape(seed=5)[None]))
    assert int(offsets.argmax()) == LAGS * LAGS // 2
    assert float((log_probabilities.exp() @ radii)[0]) < 0.75


def test_the_file_is_that_of_its_card():
    verify(PSF_ESTIMATOR)
