"""What people type for times, durations, rates, numbers and codecs, and what is refused in one sentence."""

from __future__ import annotations

from fractions import Fraction

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.pipeline.commands import options as arguments


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("0", 0), ("12.5", 12.5), ("90", 90), ("00:01", 1), ("1:30.5", 90.5), ("90:00", 5400),
        ("1:02:03", 3723), ("01:02:03.25", 3723.25), (" 5 ", 5),
    ],
)  # fmt: skip
def test_a_moment_is_seconds_or_a_clock(words, seconds):
    assert arguments.parse_timestamp(words) == seconds


@given(seconds=st.integers(0, 359_999), milli=st.integers(0, 999))
def test_a_clock_says_the_same_as_seconds(seconds, milli):
    minute, second = divmod(seconds, 60)
    hour, minute_of = divmod(minute, 60)
    ways = [
        f"{seconds}.{milli:03d}", f"{minute}:{second:02d}.{milli:03d}",
        f"{hour}:{minute_of:02d}:{second:02d}.{milli:03d}",
    ]  # fmt: skip
    assert {arguments.parse_timestamp(way) for way in ways} == {float(f"{seconds}.{milli:03d}")}


@pytest.mark.parametrize(
    "words", ["inf", "nan", "1e30", "-1", "", ":", "1:", ":30", "1:75", "1:75:00", "1:2:3:4", "9" * 30, "5s"]
)
def test_what_is_not_a_moment_is_refused_with_an_example(words):
    with pytest.raises(typer.BadParameter, match="mm:ss"):
        arguments.parse_timestamp(words)


@pytest.mark.parametrize(("words", "parse_minutes"), [("90s", 1.5), ("10m", 10), ("1.5h", 90)])
def test_a_duration_has_a_unit(words, parse_minutes):
    assert arguments.parse_minutes(words) == parse_minutes


@pytest.mark.parametrize("words", ["5", "0s", "inf", "-1m", "1d", ""])
def test_what_is_not_a_duration_is_refused_with_an_example(words):
    with pytest.raises(typer.BadParameter, match="90s, 10m or 1h"):
        arguments.parse_minutes(words)


@pytest.mark.parametrize(
    ("words", "rate"),
    [("25", Fraction(25)), ("29.97", Fraction("29.97")), ("30000/1001", Fraction(30000, 1001))],
)
def test_a_frame_rate_is_exact(words, rate):
    assert arguments.parse_frame_rate(words) == rate


@pytest.mark.parametrize("words", ["0", "25/0", "-5", "inf", "nan", "fast", "1e9", ""])
def test_what_is_not_a_frame_rate_is_refused(words):
    with pytest.raises(typer.BadParameter, match="30000/1001"):
        arguments.parse_frame_rate(words)


@pytest.mark.parametrize("words", [".", "inf", "nan", "-1", "", "1,5"])
def test_what_is_not_a_number_is_refused(words):
    with pytest.raises(typer.BadParameter, match="is not a number"):
        arguments.parse_number(words)


@pytest.mark.parametrize(
    ("words", "parse_codec"),
    [
        ("x264", "h264"), ("libx264", "h264"), ("AVC", "h264"), ("h264", "h264"), ("x265", "hevc"),
        ("H.265", "hevc"), ("libx265", "hevc"), ("libsvtav1", "av1"), ("av1", "av1"),
        ("prores_ks", "prores"), ("ffv1", "ffv1"),
    ],
)  # fmt: skip
def test_a_codec_goes_by_the_names_of_its_encoders(words, parse_codec):
    assert arguments.parse_codec(words) == parse_codec


def test_an_unknown_codec_is_refused_with_those_that_can_be_written():
    with pytest.raises(typer.BadParameter, match="h264, hevc, av1, prores or ffv1"):
        arguments.parse_codec("vp9")
