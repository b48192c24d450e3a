"""The strength of the correction changes little from frame to frame."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from freezeframe.data.types import Frame
from freezeframe.pipeline.stages.continuity import FADE_RADIUS, MAX_SLOPE, dilate, dilate_mask, erode
from freezeframe.pipeline.stages.gate import Proposal
from freezeframe.pipeline.stages.settle import StrengthSmoother

fractions = st.lists(st.floats(0, 1), min_size=1, max_size=30)


@given(fractions)
def test_no_step_is_larger_than_the_slope(weights: list[float]) -> None:
    for envelope in (dilate(weights), erode(weights)):
        assert all(abs(a - b) <= MAX_SLOPE + 1e-9 for a, b in pairwise(envelope))


@given(fractions)
def test_weights_only_rise_and_limits_only_fall(weights: list[float]) -> None:
    assert all(a >= b for a, b in zip(dilate(weights), weights, strict=True))
    assert all(a <= b for a, b in zip(erode(weights), weights, strict=True))


@given(fractions)
def test_one_is_the_other_upside_down(weights: list[float]) -> None:
    complement = [1 - each for each in erode([1 - weight for weight in weights])]
    assert dilate(weights) == pytest.approx(complement)


def test_a_gap_between_blurred_frames_is_closed() -> None:
    """The clip of people at 50 frames per second: 6.9, 0, 0 and 7.0 px are one movement."""
    assert min(dilate([1, 0, 0, 1])) == pytest.approx(2 / 3)


def test_frames_far_from_any_other_are_chosen_alone() -> None:
    assert dilate_mask([False] * 4 + [True] + [False] * 4) == [2 <= i <= 6 for i in range(9)]


class Blank:
    """A picture without pixels."""

    size = (1, 1)

    def with_linear(self, image: Tensor) -> Tensor:
        return image


def proposals(limits: list[float]) -> list[Proposal]:
    black = torch.zeros(3, 1, 1)
    return [
        Proposal(
            frame=Frame(index=i, time=Fraction(i), picture=Blank()),  # type: ignore[arg-type]
            blur=9.0, limit=limit, original=black, image=black + 1,
        )
        for i, limit in enumerate(limits)
    ]  # fmt: skip


@given(limits=fractions, parts=st.lists(st.integers(1, 5), min_size=30, max_size=30))
def test_what_is_settled_in_parts_is_what_is_settled_at_once(limits: list[float], parts: list[int]) -> None:
    """Every frame is returned once, in order, with the strength of the envelope of the whole shot."""
    smoother, rest, settled = StrengthSmoother(first=0, strength=0.5), proposals(limits), []
    for size in parts:
        part, rest = rest[:size], rest[size:]
        settled += smoother.add(part, last=not rest)
        if not rest:
            break
    assert [each.verdict.index for each in settled] == list(range(len(limits)))
    expected = [0.5 * limit for limit in erode(limits)]
    assert [each.verdict.strength for each in settled] == pytest.approx(expected, abs=1e-9)


@given(limits=fractions, first=st.integers(0, 30))
def test_a_run_that_goes_on_gives_the_rest_the_same_shares(limits: list[float], first: int) -> None:
    whole = StrengthSmoother(first=0, strength=1.0).add(proposals(limits), last=True)
    again = StrengthSmoother(first=first, strength=1.0)
    read = proposals(limits)[max(0, first - FADE_RADIUS) :]
    assert [each.verdict.strength for each in again.add(read, last=True)] == pytest.approx(
        [each.verdict.strength for each in whole[first:]]
    )


def test_shots_do_not_hear_each_other() -> None:
    smoother = StrengthSmoother(first=0, strength=1.0)
    smoother.add(proposals([0.0, 0.0]), last=True)
    assert [each.verdict.strength for each in smoother.add(proposals([1.0, 1.0]), last=True)] == [1.0, 1.0]
