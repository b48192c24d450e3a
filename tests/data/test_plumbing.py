"""The promise sheet against files that hold everything at once."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from freezeframe.data.encode import VideoSink
from freezeframe.data.plumbing import PlumbingSheet
from freezeframe.data.video import VideoSource, open_video

MakeVideo = Callable[..., Path]

# Shown turned by a quarter and mirrored: no rotation alone makes this matrix.
TURNED_AND_FLIPPED = (0, 65536, 0, 65536, 0, 0, 0, 0, 1 << 30)
IRREGULAR = (0, 1500, 6000, 9000, 9100, 18000, 27000, 31234, 40000, 45000, 54000, 60001)


def rework(source: VideoSource, target: Path, *, touch: bool = True, **wishes: object) -> PlumbingSheet:
    """Send every frame through; with `touch` the first is taken to light and back, so that all is encoded."""
    sink = VideoSink(source, target, **wishes)  # type: ignore[arg-type]
    for frame in source.frames():
        changed = touch and frame.index == 0
        sink.write([frame.showing(frame.picture.linear()) if changed else frame])
    return sink.finish()


@pytest.mark.parametrize("touch", [True, False])
@pytest.mark.parametrize(("kind", "words"), [("mp4", "mov_text"), ("mov", "mov_text"), ("mkv", "subrip")])
def test_everything_of_a_file_arrives(
    make_video: MakeVideo, tmp_path: Path, kind: str, words: str, touch: bool
):
    source = make_video(
        f"in.{kind}",
        ticks=IRREGULAR,
        aspect=Fraction(4, 3),
        matrix=TURNED_AND_FLIPPED,
        sound=True,
        subtitles=words,
        chapters=True,
        metadata={"title": "Final", "comment": "second half"},
    )
    sheet = rework(open_video(source), tmp_path / f"out.{kind}", touch=touch)
    assert sheet.passed, sheet.text()
