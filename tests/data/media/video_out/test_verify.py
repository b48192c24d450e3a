"""Verification of files with every kind of stream and metadata."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

from freezeframe.data.media.verification import VerificationReport
from freezeframe.data.media.video_in.source import VideoSource, open_video
from freezeframe.data.media.video_out.muxer import Track, mux
from freezeframe.data.media.video_out.plan import Plan
from freezeframe.data.media.video_out.sink import VideoSink
from freezeframe.data.media.video_out.verify import ExpectedOutput, verify

MakeVideo = Callable[..., Path]

# Rotated by 90 degrees and mirrored: not the matrix of a rotation alone.
TURNED_AND_FLIPPED = (0, 65536, 0, 65536, 0, 0, 0, 0, 1 << 30)
IRREGULAR = (0, 1500, 6000, 9000, 9100, 18000, 27000, 31234, 40000, 45000, 54000, 60001)


def rework(source: VideoSource, target: Path, *, touch: bool = True, **options: object) -> VerificationReport:
    """Write every frame; `touch` converts the first to linear light and back, so that all are encoded."""
    sink = VideoSink(source, target, **options)  # type: ignore[arg-type]
    for frame in source.frames():
        changed = touch and frame.index == 0
        sink.write([frame.with_image(frame.picture.linear()) if changed else frame])
    return sink.finish()


@pytest.mark.parametrize("touch", [True, False])
@pytest.mark.parametrize(("kind", "subtitles"), [("mp4", "mov_text"), ("mov", "mov_text"), ("mkv", "subrip")])
def test_everything_of_a_file_arrives(
    make_video: MakeVideo, tmp_path: Path, kind: str, subtitles: str, touch: bool
):
    source = make_video(
        f"in.{kind}",
        ticks=IRREGULAR,
        aspect=Fraction(4, 3),
        matrix=TURNED_AND_FLIPPED,
        sound=True,
        subtitles=subtitles,
        chapters=True,
        metadata={"title": "Final", "comment": "second half"},
    )
    report = rework(open_video(source), tmp_path / f"out.{kind}", touch=touch)
    assert report.passed, report.text()


def add_cover(container: Any) -> Callable[[], None]:
    """A small JPEG cover image."""
    context: Any = av.CodecContext.create("mjpeg", "w")
    context.width = context.height = 32
    context.pix_fmt, context.time_base = "yuvj420p", Fraction(1, 25)
    image = av.VideoFrame(32, 32, "yuvj420p")
    packet = av.Packet(b"".join(bytes(p) for p in [*context.encode(image), *context.encode(None)]))
    stream = container.add_mux_stream("mjpeg", width=32, height=32)
    stream.disposition = Disposition.attached_pic

    def write() -> None:
        packet.pts = packet.dts = 0
        packet.time_base, packet.stream = Fraction(1, 1000), stream
        container.mux(packet)

    return write


def add_plain_sound(container: Any) -> Callable[[], None]:
    stream = container.add_stream("pcm_s16le", rate=48000)

    def write() -> None:
        for k in range(8):
            samples = np.random.default_rng(k).integers(-999, 999, (1, 2 * 2000), dtype=np.int16)
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = 48000, 2000 * k, Fraction(1, 48000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))

    return write


def add_font(container: Any) -> Callable[[], None]:
    container.add_attachment("font.ttf", "application/x-truetype-font", b"glyphs" * 50)
    return lambda: None


@pytest.mark.parametrize("touch", [True, False])
@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("mp4", add_cover),
        ("mkv", add_cover),
        ("mkv", add_font),
        ("mov", add_plain_sound),
        ("mkv", add_plain_sound),
    ],
)
def test_unusual_streams_arrive(
    make_video: MakeVideo, tmp_path: Path, kind: str, part: Callable[[Any], Callable[[], None]], touch: bool
):
    source = open_video(make_video(f"in.{kind}", part=part))
    report = rework(source, tmp_path / f"out.{kind}", touch=touch)
    assert report.passed, report.text()
    assert any(check.name.endswith("1 bytes") for check in report.checks)


def test_place_and_maker_of_a_phone_clip_stay(make_video: MakeVideo, tmp_path: Path):
    tags = {
        "location": "+59.9139+010.7522/",
        "creation_time": "2024-06-01T12:00:00.000000Z",
        "com.apple.quicktime.make": "Apple",
    }
    source = make_video(metadata=tags, container_options={"movflags": "use_metadata_tags"})
    target = tmp_path / "out.mp4"
    assert rework(open_video(source), target).passed
    with av.open(str(target)) as container:
        assert tags.items() <= container.metadata.items()


def test_a_timecode_is_written_anew(make_video: MakeVideo, tmp_path: Path):
    source = make_video("in.mov", stream_metadata={"timecode": "01:02:03:04"})
    target = tmp_path / "out.mov"
    assert rework(open_video(source), target).passed
    with av.open(str(target)) as container:
        assert container.streams.video[0].metadata["timecode"] == "01:02:03:04"
        assert [stream.type for stream in container.streams] == ["video", "data"]


def test_hidden_frames_stay_hidden(shared_data: Path, tmp_path: Path):
    """A phone clip that was trimmed by its edit list is copied with its 132 hidden frames."""
    clip = shared_data / "test" / "clips" / "tennis_amateur.mp4"
    with av.open(str(clip)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    source = open_video(clip)
    records = mux(
        tmp_path / "out.mp4",
        "mp4",
        info=source.info,
        segments=[],
        track=Track(
            time_base=source.info.time_base, rate=source.rate, sample_aspect=None, display_matrix=None
        ),
    )
    video_record = records[0]
    assert video_record is not None
    assert len(video_record.times) == sum(not packet.is_discard for packet in packets) == 164
    with av.open(str(tmp_path / "out.mp4")) as container:
        copied_records = [packet for packet in container.demux(video=0) if packet.size]
    assert [(p.pts, p.is_discard) for p in copied_records] == [(p.pts, p.is_discard) for p in packets]


class TestSheet:
    """Every check must be able to fail."""

    def expected_output_of(self, source: VideoSource, target: Path) -> tuple[ExpectedOutput, Path]:
        sink = VideoSink(source, target)
        frames = list(source.frames())
        sink.write([frames[0].with_image(frames[0].picture.linear()), *frames[1:]])
        recorded: list[ExpectedOutput] = []
        plan_expected_output = Plan.expected_output

        def expected_output(self: Plan, *args: Any) -> ExpectedOutput:
            recorded.append(plan_expected_output(self, *args))
            return recorded[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Plan, "expected_output", expected_output)
            assert sink.finish().passed
        return recorded[0], target

    @pytest.mark.parametrize(
        ("check", "wrong_value"),
        [
            ("frames", {"times": range(0, 13 * 3600, 3600)}),
            ("timestamps", {"times": [*range(0, 11 * 3600, 3600), 11 * 3600 + 1]}),
            ("bit depth", {"depth": 10}),
            ("colour tags", {"tags": (1, 1, 1, 9)}),
            ("sample aspect", {"sample_aspect": Fraction(4, 3)}),
            ("rotation and flip", {"display_matrix": TURNED_AND_FLIPPED}),
            ("duration", {"spans": [(Fraction(0), Fraction(2))]}),
            ("chapters", {"chapters": []}),
            ("tags", {"metadata": {"title": "other"}}),
            ("size", {"size": (95, 128)}),
            ("audio 1 bytes", {"copied_records": []}),
        ],
    )
    def test_a_broken_promise_is_seen(
        self, make_video: MakeVideo, tmp_path: Path, check: str, wrong_value: dict[str, Any]
    ):
        source = open_video(make_video(sound=True, chapters=True, metadata={"title": "Final"}))
        expected_output, path = self.expected_output_of(source, tmp_path / "out.mp4")
        if check == "audio 1 bytes":
            wrong_record = replace(expected_output.copied_records[0], digest=hashlib.sha256(b"other"))
            wrong_value = {"copied_records": [wrong_record]}
        failed = [
            failed_check.name
            for failed_check in verify(path, replace(expected_output, **wrong_value)).checks
            if not failed_check.passed
        ]
        assert check in failed
