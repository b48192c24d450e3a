"""Files of cameras, phones and broadcasters: streams are copied if the output can hold them, else named."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from freezeframe.data.errors import UnreadableMedia
from freezeframe.data.media.photo.decode import decode
from freezeframe.data.media.verification import VerificationReport
from freezeframe.data.media.video_in.source import VideoSource, open_video
from freezeframe.data.media.video_in.stream_info import ffmpeg_url, open_container
from freezeframe.data.media.video_out.other_streams import packets_until
from freezeframe.data.media.video_out.sink import VideoSink
from freezeframe.data.media.video_out.stream_digest import same_tag

MakeVideo = Callable[..., Path]
Part = Callable[[Any], Callable[[], None]]
MILLISECOND = Fraction(1, 1000)


def rework(source: VideoSource, target: Path, **options: Any) -> tuple[VerificationReport, list[str]]:
    """Write every frame, the first converted to linear light and back; return the report and the notes."""
    sink = VideoSink(source, target, **options)
    notes = list(sink.notes)
    for frame in source.frames():
        sink.write([frame if frame.index else frame.with_image(frame.picture.linear())])
    return sink.finish(), notes


def payload(path: Path, kind: str) -> list[tuple[int, bytes]]:
    """The packets of the first stream of a kind, read by FFmpeg alone."""
    with av.open(ffmpeg_url(path)) as container:
        stream = next(stream for stream in container.streams if stream.type == kind)
        return [(p.pts, bytes(p)) for p in container.demux() if p.size and p.stream_index == stream.index]


def track(codec: str, contents: list[bytes], *, every: int = 200) -> Part:
    """A stream of encoded packets, one each `every` milliseconds."""

    def add(container: Any) -> Callable[[], None]:
        stream = container.add_mux_stream(codec, time_base=MILLISECOND)

        def write() -> None:
            for k, content in enumerate(contents):
                packet = av.Packet(content)
                packet.pts = packet.dts = every * k
                packet.duration, packet.time_base, packet.stream = every, MILLISECOND, stream
                container.mux(packet)

        return write

    return add


def several(*parts: Part) -> Part:
    def add(container: Any) -> Callable[[], None]:
        writers = [part(container) for part in parts]
        return lambda: [write() for write in writers] and None

    return add


def replaced(path: Path, old: bytes, new: bytes, *, last: bool = False) -> Path:
    """Replace bytes of a file by others of the same length."""
    assert len(old) == len(new)
    content = path.read_bytes()
    at = content.rindex(old) if last else content.index(old)
    path.write_bytes(content[:at] + new + content[at + len(old) :])
    return path


def boxes(content: bytes, path: tuple[bytes, ...], at: int, end: int) -> Iterator[int]:
    """Offsets of the boxes of an MP4 with the box path `path`."""
    while at + 8 <= end:
        size = int.from_bytes(content[at : at + 4], "big")
        if content[at + 4 : at + 8] == path[0]:
            yield from [at] if len(path) == 1 else boxes(content, path[1:], at + 8, at + size)
        at += size


def begin_later(path: Path, seconds: Fraction) -> Path:
    """Move the start of every edit list, as phones do to trim a clip."""
    content = bytearray(path.read_bytes())
    for trak in boxes(bytes(content), (b"moov", b"trak"), 0, len(content)):
        end = trak + int.from_bytes(content[trak : trak + 4], "big")
        (head,) = boxes(bytes(content), (b"mdia", b"mdhd"), trak + 8, end)
        (scale,) = struct.unpack_from(">I", content, head + 20)
        for edit in boxes(bytes(content), (b"edts", b"elst"), trak + 8, end):
            struct.pack_into(">i", content, edit + 20, int(seconds * scale))
    path.write_bytes(content)
    return path


GOPRO = several(track("bin_data", [b"GPMF" * 9, b"DEVC" * 7, b"STRM" * 8]), track("bin_data", [b"sos"] * 3))


@pytest.mark.parametrize("kind", ["mp4", "mov"])
def test_an_action_camera_keeps_its_measurements(make_video: MakeVideo, tmp_path: Path, kind: str):
    """GoPro: the gpmd track is copied bit for bit; fdsc, which FFmpeg cannot write, is named."""
    clip = make_video(sound=True, part=GOPRO)
    replaced(clip, b"gpmd", b"fdsc", last=True)
    report, notes = rework(open_video(clip), tmp_path / f"out.{kind}")
    assert report.passed, report.text()
    assert payload(tmp_path / f"out.{kind}", "data") == payload(clip, "data") != []
    assert [note for note in notes if note.startswith("stream 3 (data, unknown codec")] == notes != []


def test_what_matroska_cannot_hold_is_named(make_video: MakeVideo, tmp_path: Path):
    report, notes = rework(open_video(make_video(sound=True, part=GOPRO)), tmp_path / "out.mkv")
    assert report.passed, report.text()
    assert [note.partition(" (")[0] for note in notes] == ["stream 2", "stream 3"]
    assert all("Matroska" in note and note.endswith("is left out") for note in notes)


def test_sound_of_an_unknown_codec_is_named(make_video: MakeVideo, tmp_path: Path):
    clip = replaced(replaced(make_video(sound=True), b"mp4a", b"zzzz"), b"esds", b"yyyy")
    report, notes = rework(open_video(clip), tmp_path / "out.mp4")
    assert report.passed, report.text()
    assert len(notes) == 1
    assert "stream 1 (audio, unknown codec" in notes[0]


def test_cues_of_a_broadcast_are_named(make_video: MakeVideo, tmp_path: Path):
    clip = make_video("in.ts", part=track("klv", [b"\x06\x0e\x2b\x34" * 8] * 3))
    report, notes = rework(open_video(clip), tmp_path / "out.mkv")
    assert report.passed, report.text()
    assert [note for note in notes if "klv" in note] == notes != []


@pytest.mark.parametrize("kind", ["mkv", "mp4"])
def test_a_track_without_content_is_named(make_video: MakeVideo, tmp_path: Path, kind: str):
    def add_nothing(container: Any) -> Callable[[], None]:
        container.add_mux_stream("mjpeg", width=64, height=48)
        return lambda: None

    clip = make_video("in.mkv", part=add_nothing)
    report, notes = rework(open_video(clip), tmp_path / f"out.{kind}")
    assert report.passed, report.text()
    assert notes == ["stream 1 (video, mjpeg) has no packets in this part and is left out"]


@pytest.mark.parametrize("name", [b"D_WEBVTT/SUBTITLES", b"S_TEXT/WEBVTT" + bytes(5)])
@pytest.mark.parametrize("end", [b"", b"\0"])
def test_webvtt_comes_along(make_video: MakeVideo, tmp_path: Path, name: bytes, end: bytes):
    words = [b"first words" + end, b"second words" + end]
    clip = make_video("in.mkv", part=track("webvtt", words))
    old_name = b"D_WEBVTT/SUBTITLES"
    replaced(clip, old_name, name)
    report, notes = rework(open_video(clip), tmp_path / "out.mkv")
    assert report.passed, report.text()
    assert not notes
    assert [(time, words.strip(b"\n")) for time, words in payload(tmp_path / "out.mkv", "subtitle")] == [
        (200 * k, content) for k, content in enumerate(words)
    ]


def test_data_before_a_trimmed_start_stay_behind(make_video: MakeVideo, tmp_path: Path):
    """Phones trim a clip by moving the start of every track: earlier packets are never presented."""
    clip = make_video(
        ticks=range(0, 25 * 3600, 3600),
        options={"g": "5", "bf": "0"},
        part=track("bin_data", [b"GPMF%d" % k for k in range(5)]),
    )
    begin_later(clip, Fraction(2, 5))
    source = open_video(clip)
    assert sum(1 for _ in source.frames()) == 15
    report, _ = rework(source, tmp_path / "out.mp4")
    assert report.passed, report.text()
    payloads = payload(tmp_path / "out.mp4", "data")
    assert payloads
    assert {content for _, content in payloads} <= {b"GPMF2", b"GPMF3", b"GPMF4"}


@pytest.mark.parametrize("kind", ["mkv", "mp4", "mov"])
@pytest.mark.parametrize(
    ("name", "start", "time_base"),
    [("in.ts", 10 * 90_000, Fraction(1, 90_000)), ("in.mkv", 1 << 31, MILLISECOND)],
)
def test_a_late_start_is_no_length(
    make_video: MakeVideo, tmp_path: Path, name: str, start: int, time_base: Fraction, kind: str
):
    step = round(Fraction(1, 25) / time_base)
    clip = make_video(name, ticks=range(start, start + 12 * step, step), time_base=time_base)
    report, _ = rework(open_video(clip), tmp_path / f"out.{kind}")
    assert report.passed, report.text()
    (check,) = (check for check in report.checks if check.name == "duration")
    assert check.expected == "0.480 s"


def test_a_program_stream_with_fields(make_video: MakeVideo, tmp_path: Path):
    clip = make_video(
        "in.mpg",
        codec="mpeg2video",
        size=(240, 320),
        time_base=Fraction(1, 25),
        ticks=range(10),
        options={"flags": "+ildct+ilme", "field_order": "tt"},
    )
    source = open_video(clip)
    assert source.info.origin > 0
    report, _ = rework(source, tmp_path / "out.mkv")
    assert report.passed, report.text()


@pytest.mark.parametrize("end", [0.2, 0.5, None])
def test_a_part_is_as_long_as_it_was_asked_for(make_video: MakeVideo, tmp_path: Path, end: float | None):
    """Audio and data after the end of the video make no difference."""
    long = several(lambda c: _silence(c, 3), track("bin_data", [b"GPMF"] * 20))
    clip = make_video(part=long)
    report, _ = rework(open_video(clip, start=0.08, end=end), tmp_path / "out.mp4")
    assert report.passed, report.text()


def _silence(container: Any, seconds: int) -> Callable[[], None]:
    stream = container.add_stream("pcm_s16be" if container.format.name == "mov" else "aac", rate=48000)

    def write() -> None:
        for first in range(0, seconds * 48000, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
            frame.sample_rate, frame.pts, frame.time_base = 48000, first, Fraction(1, 48000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))

    return write


def test_a_part_is_copied_without_reading_the_rest(make_video: MakeVideo):
    clip = make_video(time_base=Fraction(1), ticks=range(120))
    with open_container(clip) as container:
        last = max(packet.dts * packet.time_base for packet in packets_until(container, 0, Fraction(5)))
    assert 5 < last < 20


@pytest.mark.parametrize("touched", ["+40.680-074.500/", "+40.6801234-074.5001234+012.345/"])
def test_a_place_is_the_same_in_other_digits(make_video: MakeVideo, tmp_path: Path, touched: str):
    clip = make_video("in.mov", metadata={"location": touched, "location-eng": touched})
    for kind in ("mp4", "mov", "mkv"):
        report, _ = rework(open_video(clip), tmp_path / f"out.{kind}")
        assert report.passed, report.text()


@pytest.mark.parametrize(
    ("key", "expected_value", "actual_tags", "same"),
    [
        ("location", "+40.680-074.500/", {"location": "+40.6800-074.5000/"}, True),
        ("location", "+40.680-074.500/", {"location": "+40.6810-074.5000/"}, False),
        ("location", "+40.680-074.500+010/", {"location": "+40.6800-074.5000/"}, False),
        ("location", "+40.680-074.500/", {}, False),
        ("location-eng", "+40.68-074.50/", {"location": "+40.6800-074.5000/"}, True),
        ("location", "at home", {"location": "at home"}, True),
        ("creation_time", "2010-08-21T07:23:03.5Z", {"creation_time": "2010-08-21T07:23:03.000000Z"}, True),
        ("creation_time", "2010-08-21 07:23:03", {"creation_time": "2010-08-21T07:23:03.000000Z"}, True),
        ("creation_time", "2010-08-21T07:23:03Z", {"creation_time": "2010-08-21T07:23:04.000000Z"}, False),
        ("creation_time", "2010-08-21T07:23:03Z", {}, False),
        ("creation_time", "1970-01-01T00:00:00Z", {}, True),
        ("title", "Final", {"title": "final"}, False),
    ],
)
def test_tags_are_compared_by_what_they_mean(
    key: str, expected_value: str, actual_tags: dict[str, str], same: bool
):
    assert same_tag(key, expected_value, actual_tags) is same


@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_the_day_a_matroska_was_made_comes_along(make_video: MakeVideo, tmp_path: Path, kind: str):
    clip = make_video("in.mkv", metadata={"creation_time": "2019-05-30T20:38:53.250000Z"})
    report, _ = rework(open_video(clip), tmp_path / f"out.{kind}")
    assert report.passed, report.text()


def test_transparency_beside_the_picture_is_told(make_video: MakeVideo):
    opaque = open_video(make_video("a.webm", codec="libvpx-vp9"))
    clear = open_video(make_video("b.webm", codec="libvpx-vp9", pix_fmt="yuva420p"))
    assert not opaque.notes
    assert clear.notes == ["has transparency, which is left out"]


class TestAvi:
    @pytest.fixture
    def clip(self, make_video: MakeVideo) -> Path:
        return make_video(
            "in.avi", codec="mjpeg", pix_fmt="yuvj420p", time_base=Fraction(1, 25), ticks=range(12)
        )

    def test_a_lost_index_is_no_lost_frame(self, clip: Path, tmp_path: Path):
        content = clip.read_bytes()
        clip.write_bytes(content[: content.rindex(b"idx1")])
        source = open_video(clip)
        report, _ = rework(source, tmp_path / "out.mkv")
        assert report.passed, report.text()
        assert not source.damage

    def test_a_lost_frame_is(self, clip: Path):
        content = clip.read_bytes()
        clip.write_bytes(content[: content.rindex(b"idx1") - 3000])
        with pytest.raises(UnreadableMedia, match=r"damaged|cut off"):
            list(open_video(clip).frames())


def test_a_cover_without_a_flag_is_not_the_film(make_video: MakeVideo, tmp_path: Path):
    video = make_video("video.mp4")
    clip = tmp_path / "in.mkv"
    with av.open(str(clip), "w") as out, av.open(str(video)) as source:
        cover: Any = out.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        moving = out.add_stream_from_template(source.streams.video[0])
        out.mux([*cover.encode(av.VideoFrame(64, 48, "yuvj420p")), *cover.encode(None)])
        for packet in source.demux():
            if packet.size:
                packet.stream = moving
                out.mux(packet)
    opened = open_video(clip)
    assert (opened.info.stream, opened.info.width) == (1, 128)
    report, notes = rework(opened, tmp_path / "out.mkv")
    assert report.passed, report.text()
    assert not notes
    assert payload(tmp_path / "out.mkv", "video") == payload(clip, "video"), (
        "the cover is the first stream of both"
    )


def test_a_broadcast_that_begins_between_key_frames(make_video: MakeVideo, tmp_path: Path):
    """The frame size is unknown until the next key frame: probing continues until then."""
    options = {"g": "300", "keyint_min": "300", "sc_threshold": "0", "bf": "0"}
    clip = make_video("whole.ts", ticks=range(0, 330 * 3600, 3600), options=options)
    content, video_packets = clip.read_bytes(), 0
    trimmed_bytes = bytearray()
    for at in range(0, len(content), 188):
        packet = content[at : at + 188]
        is_video = (packet[1] & 31) << 8 | packet[2] == 256
        video_packets += is_video and bool(packet[1] & 0x40)
        if not is_video or video_packets > 2:
            trimmed_bytes += packet
    late = tmp_path / "late.ts"
    late.write_bytes(trimmed_bytes)
    source = open_video(late)
    assert sum(1 for _ in source.frames()) == 30
    assert (source.info.width, source.info.height) == (128, 96)


def test_an_encrypted_film_is_called_so(make_video: MakeVideo):
    keys = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "76" * 16, "encryption_kid": "a7" * 16}
    with pytest.raises(UnreadableMedia, match="is encrypted"):
        open_video(make_video(container_options=keys))


@pytest.mark.parametrize(
    "name", ["12:30.mp4", "50%d.mp4", "-y.mp4", "a?b#c.mp4", os.fsdecode(b"\xff\xfe.mp4")]
)
def test_any_name_will_do(make_video: MakeVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    clip = make_video(sound=True).rename(tmp_path / name)
    (tmp_path / "results").mkdir()
    monkeypatch.chdir(tmp_path)
    for target in (Path("results") / name, Path("results", name).with_suffix(".mkv")):
        report, _ = rework(open_video(Path(clip.name)), target)
        assert report.passed, report.text()
    assert len(list((tmp_path / "results").iterdir())) == 2


def test_dolby_vision_is_told(shared_data: Path):
    source = open_video(shared_data / "files" / "ax__dolbyVision-hdr.MOV")
    assert any("Dolby Vision" in note for note in source.notes)


def test_animated_webp_is_refused_with_a_cure(tmp_path: Path):
    from PIL import Image

    path = tmp_path / "in.webp"
    pictures = [Image.new("RGB", (32, 32), (k, 0, 0)) for k in (0, 90, 180)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=40)
    with pytest.raises(UnreadableMedia, match="save it as GIF or APNG"):
        open_video(path)


def test_every_delay_of_a_gif_is_kept(tmp_path: Path):
    from PIL import Image

    path = tmp_path / "in.gif"
    pictures = [Image.new("RGB", (32, 24), (k, 0, 0)) for k in range(0, 250, 50)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=[20, 70, 30, 500, 40])
    source = open_video(path)
    times = [frame.time for frame in source.frames()]
    assert [b - a for a, b in pairwise(times)] == [Fraction(k, 100) for k in (2, 7, 3, 50)]
    report, _ = rework(source, tmp_path / "out.mp4")
    assert report.passed, report.text()


@pytest.mark.parametrize("kind", ["mp4", "mov", "mkv"])
def test_the_last_picture_stays_as_long_as_it_did(tmp_path: Path, kind: str):
    from PIL import Image

    path = tmp_path / "in.gif"
    pictures = [Image.new("RGB", (64, 64), (k, 0, 0)) for k in range(0, 250, 50)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=[40, 40, 40, 40, 1000])
    report, _ = rework(open_video(path), tmp_path / f"out.{kind}")
    assert report.passed, report.text()
    with av.open(str(tmp_path / f"out.{kind}")) as container:
        assert abs(container.duration / av.time_base - 1.16) < 0.02


@pytest.mark.parametrize(("codec", "pix_fmt"), [("ffv1", "gray"), ("ffv1", "bgr0"), ("rawvideo", "bgr24")])
@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_full_range_lies_in_the_nature_of_rgb(
    make_video: MakeVideo, tmp_path: Path, codec: str, pix_fmt: str, kind: str
):
    untagged = (0, 2, 2, 2)
    name = "in.avi" if codec == "rawvideo" else "in.mkv"
    clip = make_video(
        name, codec=codec, pix_fmt=pix_fmt, tags=untagged, time_base=Fraction(1, 25), ticks=range(6)
    )
    report, _ = rework(open_video(clip), tmp_path / f"out.{kind}")
    assert report.passed, report.text()


@pytest.mark.parametrize("codec", [None, "ffv1"])
def test_a_picture_one_pixel_wide(tmp_path: Path, codec: Any):
    from PIL import Image

    path = tmp_path / "in.gif"
    pictures = [Image.new("RGB", (1, 60), (k, 0, 0)) for k in (0, 100, 200)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=40)
    report, _ = rework(open_video(path), tmp_path / "out.mkv", codec=codec)
    assert report.passed, report.text()


def test_a_pipe_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "in.mp4")
    with pytest.raises(UnreadableMedia, match="is a pipe or a device"):
        open_video(tmp_path / "in.mp4")


def test_what_is_wrong_with_a_photo_is_one_line(tmp_path: Path):
    from PIL import Image

    heif = pytest.importorskip("pillow_heif", reason="needs the extra heif")
    path = tmp_path / "in.heic"
    heif.from_pillow(Image.new("RGB", (64, 64), "green")).save(path)
    content = path.read_bytes()
    # The error message of the library for this file ends with a line break.
    path.write_bytes(content[: content.index(b"mdat") + 4])
    with pytest.raises(UnreadableMedia) as error:
        decode(path)
    assert "\n" not in str(error.value)
