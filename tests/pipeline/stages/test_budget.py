"""A limited time goes to the worst frames first."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.pipeline.stages.budget import READ_AGAIN, Budget

SOFT = 0.8
excesses = st.lists(st.floats(0, 10), min_size=1, max_size=40)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def budget(seconds: float, *, frame: float = 1.0, reading: float = 0.0) -> Budget:
    found = Budget(seconds, megapixels=1.0, reading=reading, clock=Clock())
    found.frame = frame
    return found


@given(excesses=excesses, seconds=st.floats(0, 50))
def test_no_more_is_begun_than_fits_and_it_is_the_worst(excesses: list[float], seconds: float) -> None:
    scale = budget(seconds).scale(excesses, soft=SOFT)
    done = sorted((each for each in excesses if each / scale >= SOFT), reverse=True)
    assert len(done) <= seconds
    assert done == sorted(excesses, reverse=True)[: len(done)]


@given(excesses)
def test_whoever_does_not_wait_gets_everything(excesses: list[float]) -> None:
    assert budget(math.inf).scale(excesses, soft=SOFT) == 1
    assert budget(len(excesses) + 1).scale(excesses, soft=SOFT) == 1


def test_writing_and_reading_back_take_their_part() -> None:
    """Ten frames that take a second each to pass on leave nothing of ten seconds."""
    scale = budget(10.0, reading=1 / READ_AGAIN).scale([5.0] * 10, soft=SOFT)
    assert 5.0 / scale < SOFT


def test_what_a_frame_takes_is_learned() -> None:
    found = budget(100.0, frame=1.0)
    found.learn(4, {"fuse": 10.0, "gate": 2.0, "write": 50.0})
    assert found.frame == pytest.approx(2.0)
    found.learn(0, {"fuse": 10.0})
    assert found.frame == pytest.approx(2.0)
