"""Video files: every frame with its time, or an error with position and remedy."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from freezeframe.data.errors import UnreadableMedia
from freezeframe.data.media.files.background import Worker, prefetch
from freezeframe.data.media.video_in.source import open_video

MakeVideo = Callable[..., Path]
GOP5 = {"g": "5", "keyint_min": "5", "sc_threshold": "0"}


def lumas(path: Path, **options: Any) -> list[np.ndarray]:
    return [frame.picture.luma().numpy().astype(int) for frame in open_video(path, **options).frames()]


def spoil(path: Path, packet: int) -> Path:
    """Zero the middle of one video packet."""
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        offset, size = packets[packet].pos, packets[packet].size
    content = bytearray(path.read_bytes())
    content[offset + size // 8 : offset + size] = bytes(size - size // 8)
    spoiled = path.with_name(f"spoiled{path.suffix}")
    spoiled.write_bytes(content)
    return spoiled


@pytest.mark.parametrize("bframes", ["0", "3"])
def test_times_are_exact(make_video: MakeVideo, bframes: str):
    ticks = [0, 1, 1500, 4504, 9000, 9001, 20000, 20003, 31000, 40000, 40001, 50000]
    source = open_video(make_video(ticks=ticks, options={"bf": bframes}))
    assert [frame.time for frame in source.frames()] == [Fraction(t, 90_000) for t in ticks]
    assert [frame.index for frame in source.frames(first=5)] == list(range(5, 12))


def test_a_part_is_cut_at_the_very_frame(make_video: MakeVideo):
    source = open_video(make_video(), start=0.08, end=0.2)
    assert [frame.time for frame in source.frames()] == [Fraction(k, 25) for k in (2, 3, 4)]
    assert source.count == 3


def test_a_part_counts_from_what_players_call_zero(make_video: MakeVideo):
    late = make_video(ticks=range(900_000, 900_000 + 10 * 3600, 3600))
    times = [frame.time for frame in open_video(late, start=0.2).frames()]
    assert times == [10 + Fraction(k, 25) for k in range(5, 10)]


def test_glimpses_are_spread_and_consecutive(make_video: MakeVideo):
    for options in (GOP5, {}):  # with and without key frames to seek to
        source = open_video(make_video(ticks=range(0, 60 * 3600, 3600), options=options))
        runs = [[frame.time for frame in run] for run in source.sample_clips(4, 3)]
        assert len(runs) == 4
        assert all(b - a == Fraction(1, 25) for run in runs for a, b in itertools.pairwise(run))
        assert all(a[-1] < b[0] for a, b in itertools.pairwise(runs))
        assert runs[-1][0] > Fraction(3, 2), "the last quarter is sampled too"


class TestDamage:
    """Twenty-five frames, a key frame every five; the twelfth packet is destroyed."""

    @pytest.fixture
    def sound(self, make_video: MakeVideo) -> Path:
        return make_video(ticks=range(0, 25 * 3600, 3600), options=GOP5 | {"bf": "0"})

    def test_it_is_named_with_place_and_cure(self, sound: Path):
        with pytest.raises(UnreadableMedia, match=r"spoiled.mp4: frame 1[01] \(0\.4.* s\).*--skip-damaged"):
            lumas(spoil(sound, 11))

    def test_the_neighbour_stands_in(self, sound: Path):
        spoiled = spoil(sound, 11)
        source = open_video(spoiled, skip_damaged=True)
        frames = list(source.frames())
        assert [frame.time for frame in frames] == [Fraction(k, 25) for k in range(25)]
        assert source.damage
        assert "frame 11 (0.44 s)" in source.damage[0]
        truth, actual = lumas(sound), [f.picture.luma().numpy().astype(int) for f in frames]
        np.testing.assert_array_equal(actual[11], truth[10])
        for k in (*range(11), *range(15, 25)):
            np.testing.assert_array_equal(actual[k], truth[k])

    def test_a_damaged_opening_shows_what_follows(self, sound: Path):
        source = open_video(spoil(sound, 0), skip_damaged=True)
        assert [frame.time for frame in source.frames()] == [Fraction(k, 25) for k in range(25)]

    @pytest.mark.parametrize("kind", ["mp4", "mkv"])
    def test_a_file_that_was_cut_off(self, make_video: MakeVideo, kind: str):
        whole = make_video(f"whole.{kind}", ticks=range(0, 50 * 3600, 3600), size=(192, 256))
        short = whole.with_name(f"short.{kind}")
        if kind == "mp4":  # the index is at the end: bring it to the front first
            quick = whole.with_name("quick.mp4")
            with (
                av.open(str(whole)) as old,
                av.open(str(quick), "w", options={"movflags": "faststart"}) as new,
            ):
                stream = new.add_stream_from_template(old.streams.video[0], opaque=True)
                for packet in old.demux(video=0):
                    if packet.size:
                        packet.stream = stream
                        new.mux(packet)
            whole = quick
        content = whole.read_bytes()
        short.write_bytes(content[: len(content) * 2 // 3])
        with pytest.raises(UnreadableMedia, match=r"frame \d+ .*--skip-damaged"):
            lumas(short)
        source = open_video(short, skip_damaged=True)
        assert 5 < len(list(source.frames())) < 50
        assert source.damage


class TestNotAVideo:
    def test_text(self, tmp_path: Path):
        path = tmp_path / "notes.mp4"
        path.write_text("score 2:1\n" * 100)
        with pytest.raises(UnreadableMedia, match=r"notes\.mp4: is not a video"):
            open_video(path)

    def test_empty(self, tmp_path: Path):
        path = tmp_path / "none.mp4"
        path.touch()
        with pytest.raises(UnreadableMedia, match="is empty"):
            open_video(path)

    def test_missing(self, tmp_path: Path):
        with pytest.raises(UnreadableMedia, match="no such file"):
            open_video(tmp_path / "gone.mp4")

    def test_folder(self, tmp_path: Path):
        with pytest.raises(UnreadableMedia, match="is a folder"):
            open_video(tmp_path)

    def test_photo(self, tmp_path: Path):
        path = tmp_path / "photo.png"
        av.VideoFrame(16, 16, "rgb24").save(str(path))
        with pytest.raises(UnreadableMedia, match="burst"):
            open_video(path)

    def test_sound_with_a_cover(self, tmp_path: Path):
        path = tmp_path / "song.mka"
        with av.open(str(path), "w", format="matroska") as container:
            stream = container.add_stream("flac", rate=48000)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 9600), np.int16), format="s16", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        with pytest.raises(UnreadableMedia, match="no video stream"):
            open_video(path)

    def test_end_before_start(self, make_video: MakeVideo):
        with pytest.raises(UnreadableMedia, match="must come after the start"):
            open_video(make_video(), start=2, end=1)

    def test_nothing_in_the_part_asked_for(self, make_video: MakeVideo):
        with pytest.raises(UnreadableMedia, match="--start"):
            lumas(make_video(), start=100)


def test_a_change_of_size_is_told(tmp_path: Path):
    """Two raw H.264 streams of different size, one after the other."""
    content = b""
    for size in ((96, 128), (64, 96)):
        part = tmp_path / "part.h264"
        with av.open(str(part), "w", format="h264") as container:
            stream: Any = container.add_stream("libx264", rate=25)
            stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
            for k in range(6):
                frame = av.VideoFrame(size[1], size[0], "yuv420p")
                frame.pts, frame.time_base = k, Fraction(1, 25)
                for plane in frame.planes:
                    plane.update(bytes([100 + k]) * plane.buffer_size)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        content += part.read_bytes()
    path = tmp_path / "both.h264"
    path.write_bytes(content)
    with pytest.raises(UnreadableMedia, match=r"frame 6 .* from 128x96 yuv420p to 96x64 yuv420p"):
        lumas(path)


def test_fields_become_frames(make_video: MakeVideo):
    """Two fields of different time in one frame make a comb along vertical edges; bwdif removes it."""
    frames = []
    for k in range(10):
        image = np.full((96, 128, 3), 60, np.uint8)
        for field in (0, 1):
            image[field::2, 20 + 8 * k + 4 * field : 50 + 8 * k + 4 * field] = 200
        frames.append(av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p"))
    source = make_video(
        ticks=range(0, 36000, 3600), frames=frames, options={"x264-params": "tff=1:interlaced=1", "crf": "5"}
    )
    video = open_video(source)
    assert any("interlaced" in note for note in video.notes)
    frames_out = list(video.frames())
    assert [frame.time for frame in frames_out] == [Fraction(k, 25) for k in range(10)]

    def comb(image: np.ndarray) -> float:
        return float(np.abs(image[:-2] - 2 * image[1:-1] + image[2:]).mean())

    with av.open(str(source)) as container:
        raw = [comb(frame.to_ndarray(format="gray").astype(int)) for frame in container.decode(video=0)]
    whole = [comb(frame.picture.luma().numpy().astype(int)) for frame in frames_out]
    assert max(whole[1:-1]) < 0.5 * min(raw)


class TestThreads:
    def test_items_come_in_order(self):
        assert list(prefetch(iter(range(100)), 3)) == list(range(100))

    def test_an_error_comes_in_its_place(self):
        def items():
            yield 1
            raise UnreadableMedia("here")

        ahead = prefetch(items(), 3)
        assert next(ahead) == 1
        with pytest.raises(UnreadableMedia, match="here"):
            next(ahead)

    def test_closing_stops_the_thread(self):
        def endless():
            while True:
                yield 0

        before = threading.active_count()
        ahead = prefetch(endless(), 3)
        next(ahead)
        assert threading.active_count() == before + 1
        ahead.close()
        assert threading.active_count() == before

    def test_a_worker_tells_its_error_once_and_stops(self):
        done = []

        def work(item: int) -> None:
            if item == 3:
                raise ValueError("three")
            done.append(item)

        worker = Worker(work, 9)
        for k in range(5):
            worker.put(k)
        with pytest.raises(ValueError, match="three"):
            worker.join()
        worker.abandon()
        assert done == [0, 1, 2]


def test_real_clips_hold_what_they_promise(shared_data: Path):
    """Count and times against a plain decode loop, the second implementation."""
    for name in ("handheld_short.mp4", "bikes.mp4", "aerobie.avi"):
        path = shared_data / "test" / "clips" / name
        with av.open(str(path)) as container:
            plain = [frame.pts * frame.time_base for frame in container.decode(video=0)]
        source = open_video(path)
        assert [frame.time for frame in source.frames()] == plain
        assert source.count == len(plain)
        assert not source.notes + source.damage


def test_an_edit_list_hides_frames(shared_data: Path):
    """This phone clip was trimmed without re-encoding: 132 of its 296 frames must not be shown."""
    source = open_video(shared_data / "test" / "clips" / "tennis_amateur.mp4", end=0.2)
    assert [frame.time for frame in source.frames()] == [Fraction(k * 3003, 90_000) for k in range(6)]


class TestLateParts:
    """A late start is reached by seeking; the frames are equal to those of a full decode."""

    TICKS = range(0, 20 * 90_000, 18_000)  # twenty seconds, five frames each

    @pytest.mark.parametrize("kind", ["mp4", "mkv"])
    @pytest.mark.parametrize(
        ("codec", "options"),
        [
            ("libx264", {"g": "12", "bf": "3", "x264-params": "open-gop=1"}),
            ("libx265", {"x265-params": "log-level=error:keyint=12:min-keyint=12:open-gop=1:bframes=3"}),
        ],
    )
    def test_it_is_the_same(self, make_video: MakeVideo, kind: str, codec: str, options: dict[str, str]):
        path = make_video(f"in.{kind}", ticks=self.TICKS, codec=codec, options=options)
        whole = {frame.time: frame.picture.luma() for frame in open_video(path).frames()}
        for start in (6.0, 7.3, 12.2, 19.8):
            part = list(open_video(path, start=start, end=start + 3).frames())
            first = Fraction(str(start))
            expected = [time for time in whole if first <= time < first + 3]
            assert [frame.time for frame in part] == expected
            assert all(bool((frame.picture.luma() == whole[frame.time]).all()) for frame in part)

    def test_what_lies_before_is_not_read(self, make_video: MakeVideo):
        path = spoil(make_video(ticks=self.TICKS, options=GOP5 | {"bf": "0"}), 11)
        with pytest.raises(UnreadableMedia):
            list(open_video(path).frames())
        assert len(list(open_video(path, start=10, end=11).frames())) == 5

    def test_a_file_that_was_cut_off_is_noticed(self, make_video: MakeVideo, tmp_path: Path):
        whole = make_video(ticks=self.TICKS, options=GOP5, container_options={"movflags": "faststart"})
        short = tmp_path / "short.mp4"
        short.write_bytes(whole.read_bytes()[:-3000])
        with pytest.raises(UnreadableMedia, match=r"\(?1\d\.\d+ s\)?.*(missing|damaged)"):
            list(open_video(short, start=6).frames())
