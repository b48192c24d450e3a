"""Where a deconvolution changes a frame, and the blur that it removes there."""

from __future__ import annotations

import math

import pytest
import torch

from freezeframe.data.types import Box
from freezeframe.pipeline.stages.blurred_parts import blurred_parts as parts_of


@pytest.mark.parametrize("vector", [(8.0, 3.0), (-8.0, -3.0), (0.0, 5.0)])
def test_a_pan_is_one_region_as_large_as_the_frame(vector, steady):
    (region,) = parts_of(steady(vector), None)
    assert region.box == Box(left=0, top=0, right=128, bottom=96)
    assert region.mover == "camera"
    assert region.blur == pytest.approx(math.hypot(*vector))
    # Blur has no sign: the direction is one modulo half a turn.
    assert math.cos(2 * (region.direction - math.atan2(vector[1], vector[0]))) == pytest.approx(1)


def test_the_two_sides_of_a_turn_do_not_cancel(steady):
    """A camera that rolls moves the top of the picture to one side and its bottom to the other."""
    vectors = steady((6.0, 0.0))
    vectors[:, 48:] *= -1
    (region,) = parts_of(vectors, None)
    assert (region.blur, region.direction) == pytest.approx((6.0, 0.0))


def test_long_blur_has_the_say_in_the_direction(steady):
    """Half a pixel of noise in most of the frame does not turn the blur of a third of it."""
    vectors = steady((0.0, 0.5))
    vectors[:, :, :40] = torch.tensor([6.0, 6.0]).view(2, 1, 1)
    (region,) = parts_of(vectors, None)
    assert region.direction == pytest.approx(math.pi / 4, abs=1e-3)


def test_connected_parts_of_what_moves_are_regions(steady):
    vectors, mask = steady((0.0, 0.0)), torch.zeros(96, 128)
    for rows, columns, vector in (
        (slice(10, 30), slice(5, 45), (9.0, 0.0)),
        (slice(60, 90), slice(80, 120), (0.0, 4.0)),
    ):
        vectors[:, rows, columns] = torch.tensor(vector).view(2, 1, 1)
        mask[rows, columns] = 0.5
    first, second = parts_of(vectors, mask)
    assert first.box == Box(left=5, top=10, right=45, bottom=30)
    assert second.box == Box(left=80, top=60, right=120, bottom=90)
    assert {first.mover, second.mover} == {"object"}
    assert (first.blur, first.direction) == pytest.approx((9.0, 0.0), abs=1e-3)
    assert (second.blur, abs(second.direction)) == pytest.approx((4.0, math.pi / 2), abs=1e-3)


def test_where_nothing_moves_there_is_no_region(steady):
    assert parts_of(steady((0.0, 0.0)), torch.zeros(96, 128)) == ()
