"""The strength of the correction changes little from frame to frame."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from freezeframe.data.types import Frame
from freezeframe.pipeline.stages.continuity import FADE_RADIUS, MAX_SLOPE, dilate, dilate_mask, erode
from freezeframe.pipeline.stages.gate import Proposal
from freezeframe.pipeline.stages.settle import StrengthSmoother

from .regions import proposal, region

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


def moving(strengths_of_tracks: list[tuple[float, float]], **changes: float) -> list[Proposal]:
    """Frames with two movers, as strongly explained as their layers say."""
    return [
        replace(
            proposal(*(region(track=track, strength=each) for track, each in enumerate(strengths)), index=i),
            **changes,
        )
        for i, strengths in enumerate(strengths_of_tracks)
    ]


def applied(smoother: StrengthSmoother, frames: list[Proposal]) -> list[list[float]]:
    """The strengths of the tracks, as listed, by frame."""
    settled = smoother.add(frames, last=True)
    return [[each.strength for each in frame.verdict.regions] for frame in settled]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12))
def test_the_strength_of_a_mover_changes_slowly(strengths: list[tuple[float, float]]) -> None:
    """Each track has the mean of the envelopes of its own strengths, whatever others and the frame do."""
    found = applied(StrengthSmoother(first=0, strength=1.0), moving(strengths, limit=0.0))
    for track in (0, 1):
        own, smooth = [each[track] for each in strengths], [each[track] for each in found]
        assert all(abs(a - b) <= MAX_SLOPE + 1e-9 for a, b in pairwise(smooth))
        middle = [(low + high) / 2 for low, high in zip(erode(own), dilate(own), strict=True)]
        assert smooth == pytest.approx(middle, abs=1e-9)


@pytest.mark.parametrize(("residual", "shown"), [(0.3, 1 / 3), (0.4, 0.2), (0.5, 0.0), (3.0, 0.0)])
def test_neighbours_lend_strength_to_a_layer_that_explains_something(residual: float, shown: float) -> None:
    """One that leaves half of what it should explain is not shown at all."""
    frames = moving([(1.0, 1.0), (1.0, 1.0), (0.0, 1.0), (1.0, 1.0), (1.0, 1.0)])
    first, second = frames[2].regions
    bad = replace(first, verdict=replace(first.verdict, residual=residual))
    frames[2] = replace(frames[2], regions=(bad, second))
    settled = StrengthSmoother(first=0, strength=1.0).add(frames, last=True)
    regions = settled[2].verdict.regions
    assert [each.strength for each in regions] == pytest.approx([shown, 1.0])
    assert regions[0].method == ("layer" if shown else "input")


def test_the_listed_strength_is_the_applied_one() -> None:
    """The option of the user counts, and a region of which nothing is applied shows the input."""
    for strength in (0.0, 0.5):
        (frame,) = StrengthSmoother(first=0, strength=strength).add(moving([(1.0, 0.0)]), last=True)
        first, second = frame.verdict.regions
        assert (first.strength, second.strength) == (strength, 0.0)
        assert (first.method, second.method) == ("layer" if strength else "input", "input")
        recorded = frame.proposal.frame.picture.linear()
        expected = recorded.clone()
        rows, columns = first.box.slices((recorded.shape[1], recorded.shape[2]))
        layer = frame.proposal.regions[0]
        expected[:, rows, columns] = expected[:, rows, columns].lerp(layer.image, strength * layer.weight)
        torch.testing.assert_close(frame.frame.picture.linear(), expected)


def test_a_mover_that_comes_or_goes_does_not_fade() -> None:
    frames = moving([(1.0, 1.0)] * 4)
    frames[1] = replace(frames[1], regions=frames[1].regions[:1])  # the second track has no layer here
    assert applied(StrengthSmoother(first=0, strength=1.0), frames) == [[1, 1], [1], [1, 1], [1, 1]]
