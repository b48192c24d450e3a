"""Local cepstra: minima lie at the ends of the blur, and turn with the picture."""

from __future__ import annotations

import math

import pytest
import torch

from freezeframe.data.color import SRGB, to_encoded, to_linear
from freezeframe.data.synthesis.degradations.psf import convolve, line_kernel
from freezeframe.models.deblur.local_cepstrum import CELL, LENGTHS, NUM_DIRECTIONS, LocalCepstrum

MEAN = 1  # channel of the mean power of nine windows


def grain(size=(128, 192), *, seed=0):
    random = torch.Generator().manual_seed(seed)
    return (0.4 + 0.1 * torch.randn(3, *size, generator=random)).clamp(0, 1)


@pytest.mark.parametrize(("direction", "length"), [(0, 8), (12, 8), (5, 9), (20, 7)])
def test_a_line_has_its_minimum_at_its_own_bin(direction, length):
    angle = math.pi * direction / NUM_DIRECTIONS
    blurred = convolve(to_linear(grain((256, 256)), SRGB), line_kernel(LENGTHS[length], angle=angle))
    cepstra = LocalCepstrum()(to_encoded(blurred, SRGB)[None])[0, MEAN].mean((-2, -1))
    long = cepstra[:, 4:]  # short lags are those of any picture
    at = int(long.argmin())
    found = at // long.shape[1], at % long.shape[1] + 4
    apart = abs(found[0] - direction)
    assert min(apart, NUM_DIRECTIONS - apart) <= 1
    assert abs(found[1] - length) <= 1


def test_a_quarter_turn_of_the_picture_shifts_the_directions_by_half():
    picture = grain()[None]
    cepstra, turned = LocalCepstrum()(picture), LocalCepstrum()(picture.rot90(1, (-2, -1)))
    expected = cepstra.roll(NUM_DIRECTIONS // 2, 2).rot90(1, (-2, -1))
    assert turned.shape == expected.shape
    assert torch.allclose(turned, expected, atol=1e-4)


def test_there_is_one_cell_of_each_32_pixels_and_small_pictures_are_mirrored():
    cepstra = LocalCepstrum()(grain((32, 64))[None])
    assert cepstra.shape == (1, 3, NUM_DIRECTIONS, len(LENGTHS), 32 // CELL, 64 // CELL)
    assert bool(cepstra.isfinite().all())
