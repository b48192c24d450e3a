"""A limited time goes to the most blurred frames first."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.pipeline.support.limits.budget import Budget, BudgetParams, FrameWork

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


def work_of(blur_ratios: Iterable[float]) -> list[FrameWork]:
    return [FrameWork(blur_ratio=each) for each in blur_ratios]


@given(blur_ratios=blur_ratios, seconds=st.floats(0, 50))
def test_no_more_is_begun_than_fits_and_it_is_the_worst(blur_ratios: list[float], seconds: float) -> None:
    threshold_scale = budget(seconds).threshold_scale(work_of(blur_ratios), ramp_start=RAMP_START)
    processed = sorted((each for each in blur_ratios if each / threshold_scale >= RAMP_START), reverse=True)
    assert len(processed) <= seconds
    assert processed == sorted(blur_ratios, reverse=True)[: len(processed)]


@given(blur_ratios)
def test_whoever_does_not_wait_gets_everything(blur_ratios: list[float]) -> None:
    work = work_of(blur_ratios)
    assert budget(math.inf).threshold_scale(work, ramp_start=RAMP_START) == 1
    assert budget(len(blur_ratios) + 1).threshold_scale(work, ramp_start=RAMP_START) == 1


def test_writing_and_reading_back_take_their_part() -> None:
    """Ten frames that take a second each to pass on leave nothing of ten seconds."""
    threshold_scale = budget(10.0, read_seconds=1 / BudgetParams().passthrough_cost).threshold_scale(
        work_of([5.0] * 10), ramp_start=RAMP_START
    )
    assert 5.0 / threshold_scale < RAMP_START


def test_what_a_frame_takes_is_learned() -> None:
    """The first measurement replaces the guess; later ones are averaged."""
    limited, frame = budget(100.0, frame_seconds=1.0), FrameWork(blur_ratio=2.0)
    assert limited.seconds(frame) == pytest.approx(1.0)
    limited.update([frame] * 4, {"fuse": 10.0, "gate": 2.0, "write": 50.0})
    assert limited.seconds(frame) == pytest.approx(3.0)
    limited.update([frame] * 4, {"fuse": 20.0})
    assert limited.seconds(frame) == pytest.approx(4.0)
    limited.update([], {"fuse": 10.0})
    assert limited.seconds(frame) == pytest.approx(4.0)


@given(
    st.lists(
        st.builds(
            FrameWork, blur_ratio=st.floats(0, 4), deconvolved=st.booleans(), layer_megapixels=st.floats(0, 1)
        ),
        min_size=2,
        max_size=40,
    ),
    st.floats(0.1, 20),
    st.floats(1, 2000),
)
def test_after_one_window_the_estimate_is_that_of_the_rest(
    rest: list[FrameWork], frame_seconds: float, layer_seconds: float
) -> None:
    """Deconvolution and layers take what they take, whatever was expected."""
    unlimited = budget(math.inf)
    first = [FrameWork(blur_ratio=2.0, layer_megapixels=0.1), FrameWork(blur_ratio=2.0, deconvolved=False)]
    unlimited.update(first, {"layers": 0.1 * layer_seconds, "fuse": frame_seconds, "write": 3.0})
    processed = [each for each in rest if each.blur_ratio >= RAMP_START]
    expected = sum(
        frame_seconds * each.deconvolved + layer_seconds * each.layer_megapixels for each in processed
    )
    assert unlimited.estimate(rest, ramp_start=RAMP_START) == pytest.approx(expected)


def test_frames_that_were_left_out_teach_nothing() -> None:
    """With time for one frame of four, its seconds are those of one frame."""
    limited = budget(1.5, frame_seconds=1.0)
    work = work_of([5.0, 2.0, 2.0, 2.0])
    limited.threshold_scale(work, ramp_start=RAMP_START)
    limited.update(work, {"fuse": 7.0})
    assert limited.seconds(work[0]) == pytest.approx(7.0)
