"""A limited time goes to the most blurred frames first."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.pipeline.support.limits.budget import Budget, BudgetParams

RAMP_START = 0.8
blur_ratios = st.lists(st.floats(0, 10), min_size=1, max_size=40)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def budget(seconds: float, *, frame_seconds: float = 1.0, read_seconds: float = 0.0) -> Budget:
    params = BudgetParams(seconds_per_megapixel=frame_seconds)
    return Budget(seconds, megapixels=1.0, read_seconds=read_seconds, params=params, clock=Clock())


@given(blur_ratios=blur_ratios, seconds=st.floats(0, 50))
def test_no_more_is_begun_than_fits_and_it_is_the_worst(blur_ratios: list[float], seconds: float) -> None:
    threshold_scale = budget(seconds).threshold_scale(blur_ratios, ramp_start=RAMP_START)
    processed = sorted((each for each in blur_ratios if each / threshold_scale >= RAMP_START), reverse=True)
    assert len(processed) <= seconds
    assert processed == sorted(blur_ratios, reverse=True)[: len(processed)]


@given(blur_ratios)
def test_whoever_does_not_wait_gets_everything(blur_ratios: list[float]) -> None:
    assert budget(math.inf).threshold_scale(blur_ratios, ramp_start=RAMP_START) == 1
    assert budget(len(blur_ratios) + 1).threshold_scale(blur_ratios, ramp_start=RAMP_START) == 1


def test_writing_and_reading_back_take_their_part() -> None:
    """Ten frames that take a second each to pass on leave nothing of ten seconds."""
    threshold_scale = budget(10.0, read_seconds=1 / BudgetParams().passthrough_cost).threshold_scale(
        [5.0] * 10, ramp_start=RAMP_START
    )
    assert 5.0 / threshold_scale < RAMP_START


def test_what_a_frame_takes_is_learned() -> None:
    limited = budget(100.0, frame_seconds=1.0)
    limited.update(4, {"fuse": 10.0, "gate": 2.0, "write": 50.0})
    assert limited.frame_seconds == pytest.approx(2.0)
    limited.update(0, {"fuse": 10.0})
    assert limited.frame_seconds == pytest.approx(2.0)
