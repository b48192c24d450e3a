"""Windows cover every frame once, stay in their shot and join after an interruption."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from freezeframe.data.types import Frame
from freezeframe.pipeline.config import ShotConfig
from freezeframe.pipeline.stages.shots import Window, windows
from freezeframe.pipeline.support.limits.capacity import frames_per_window


@dataclass(frozen=True)
class Grey:
    """A uniform picture of 1x8 pixels, cheap enough for thousands of frames."""

    value: int

    @property
    def size(self) -> tuple[int, int]:
        return 1, 8

    def linear(self) -> Tensor:
        return torch.full((3, 1, 8), self.value / 255)

    def luma(self) -> Tensor:
        return torch.full((1, 8), self.value, dtype=torch.uint8)

    def with_linear(self, image: Tensor) -> Grey:
        return Grey(round(float(image.mean()) * 255))


def stream(lengths: list[int]) -> Iterator[Frame]:
    """Shots of these lengths, each with a brightness of its own."""
    values = [(40 * shot) % 251 for shot, length in enumerate(lengths) for _ in range(length)]
    for index, value in enumerate(values):
        yield Frame(index=index, time=Fraction(index, 25), picture=Grey(value))


def starts(lengths: list[int]) -> set[int]:
    return set(accumulate(lengths))


def numbers(window: Window) -> list[int]:
    return [frame.index for frame in window.written]


shot_lengths = st.lists(st.integers(1, 70), min_size=1, max_size=5)


@given(lengths=shot_lengths, context=st.integers(0, 4))
def test_every_frame_is_written_once_and_in_order(lengths: list[int], context: int) -> None:
    all_windows = list(windows(stream(lengths), ShotConfig(context=context), cuts=starts(lengths)))
    assert [i for window in all_windows for i in numbers(window)] == list(range(sum(lengths)))


@given(lengths=shot_lengths, context=st.integers(0, 4))
def test_a_window_sees_its_context_and_never_another_shot(lengths: list[int], context: int) -> None:
    for window in windows(stream(lengths), ShotConfig(context=context), cuts=starts(lengths)):
        values = {int(frame.picture.luma()[0, 0]) for frame in window.frames}
        begin = sum(lengths[: window.shot])
        end = begin + lengths[window.shot]
        first, last = numbers(window)[0], numbers(window)[-1]
        assert len(values) == 1
        assert window.frames[0].index == max(begin, first - context)
        assert window.frames[-1].index >= min(end - 1, last + context)


@given(lengths=shot_lengths, start=st.integers(0, 60))
def test_a_resumed_run_writes_exactly_the_rest(lengths: list[int], start: int) -> None:
    config = ShotConfig(context=3)
    rest = (frame for frame in stream(lengths) if frame.index >= start - config.context)
    all_windows = list(windows(rest, config, cuts=starts(lengths), start=start))
    assert [i for window in all_windows for i in numbers(window)] == list(range(start, sum(lengths)))


def test_a_cut_of_a_window_keeps_what_lies_around_the_frames_asked_for() -> None:
    window = next(iter(windows(stream([40]), ShotConfig(context=3), cuts=())))
    part = window.subwindow([10, 12], context=2)
    assert [frame.index for frame in part.frames] == [8, 9, 10, 11, 12, 13, 14]
    assert [frame.index for frame in part.written] == [8, 9, 10, 11, 12, 13, 14]


@pytest.mark.parametrize(("size", "keeps"), [((360, 640), 16), ((1080, 1920), 6), ((2160, 3840), 2)])
def test_larger_frames_make_shorter_windows(size: tuple[int, int], keeps: int) -> None:
    """1,200 MB hold images and motion of 12 frames of 1080p; six of them are context."""
    assert frames_per_window(size, ShotConfig()) == keeps
