"""Parsers of times, durations, frame rates, numbers and codecs, and their error messages."""

from __future__ import annotations

from fractions import Fraction

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.pipeline.commands.terminal import options


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0), ("12.5", 12.5), ("90", 90), ("00:01", 1), ("1:30.5", 90.5), ("90:00", 5400),
        ("1:02:03", 3723), ("01:02:03.25", 3723.25), (" 5 ", 5),
    ],
)  # fmt: skip
def test_a_moment_is_seconds_or_a_clock(text, seconds):
    assert options.parse_timestamp(text) == seconds


@given(seconds=st.integers(0, 359_999), milli=st.integers(0, 999))
def test_a_clock_says_the_same_as_seconds(seconds, milli):
    minute, second = divmod(seconds, 60)
    hour, minute_of = divmod(minute, 60)
    notations = [
        f"{seconds}.{milli:03d}", f"{minute}:{second:02d}.{milli:03d}",
        f"{hour}:{minute_of:02d}:{second:02d}.{milli:03d}",
    ]  # fmt: skip
    assert {options.parse_timestamp(notation) for notation in notations} == {float(f"{seconds}.{milli:03d}")}


@pytest.mark.parametrize(
    "text", ["inf", "nan", "1e30", "-1", "", ":", "1:", ":30", "1:75", "1:75:00", "1:2:3:4", "9" * 30, "5s"]
)
def test_what_is_not_a_moment_is_refused_with_an_example(text):
    with pytest.raises(typer.BadParameter, match="mm:ss"):
        options.parse_timestamp(text)


@pytest.mark.parametrize(("text", "minutes"), [("90s", 1.5), ("10m", 10), ("1.5h", 90)])
def test_a_duration_has_a_unit(text, minutes):
    assert options.parse_minutes(text) == minutes


@pytest.mark.parametrize("text", ["5", "0s", "inf", "-1m", "1d", ""])
def test_what_is_not_a_duration_is_refused_with_an_example(text):
    with pytest.raises(typer.BadParameter, match="90s, 10m or 1h"):
        options.parse_minutes(text)


@pytest.mark.parametrize(
    ("text", "rate"),
    [("25", Fraction(25)), ("29.97", Fraction("29.97")), ("30000/1001", Fraction(30000, 1001))],
)
def test_a_frame_rate_is_exact(text, rate):
    assert options.parse_frame_rate(text) == rate


@pytest.mark.parametrize("text", ["0", "25/0", "-5", "inf", "nan", "fast", "1e9", ""])
def test_what_is_not_a_frame_rate_is_refused(text):
    with pytest.raises(typer.BadParameter, match="30000/1001"):
        options.parse_frame_rate(text)


@pytest.mark.parametrize("text", [".", "inf", "nan", "-1", "", "1,5"])
def test_what_is_not_a_number_is_refused(text):
    with pytest.raises(typer.BadParameter, match="is not a number"):
        options.parse_number(text)


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        ("x264", "h264"), ("libx264", "h264"), ("AVC", "h264"), ("h264", "h264"), ("x265", "hevc"),
        ("H.265", "hevc"), ("libx265", "hevc"), ("libsvtav1", "av1"), ("av1", "av1"),
        ("prores_ks", "prores"), ("ffv1", "ffv1"),
    ],
)  # fmt: skip
def test_a_codec_goes_by_the_names_of_its_encoders(text, codec):
    assert options.parse_codec(text) == codec


def test_an_unknown_codec_is_refused_with_those_that_can_be_written():
    with pytest.raises(typer.BadParameter, match="h264, hevc, av1, prores or ffv1"):
        options.parse_codec("vp9")
