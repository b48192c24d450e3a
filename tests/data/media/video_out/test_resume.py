"""A resumed file is equal to an uninterrupted one, bit for bit."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
import pytest

from freezeframe.data.errors import UnreadableMedia, UnwritableOutput
from freezeframe.data.media.files.directories import work_dir
from freezeframe.data.media.files.lock import Lock
from freezeframe.data.media.folder.sink import ImageFolderSink
from freezeframe.data.media.folder.source import open_folder
from freezeframe.data.media.video_in.frame_picture import VideoPicture, flatten_samples
from freezeframe.data.media.video_in.source import open_video
from freezeframe.data.media.video_out.sink import SinkConfig, VideoSink
from freezeframe.data.types import Frame, Source

MakeVideo = Callable[..., Path]
WINDOW = 3  # frames
EVERY_WINDOW = SinkConfig(save_interval_s=0.0)  # saves the finished frames after each window


def changed(source: Source, which: Callable[[int], bool] = lambda _: True) -> list[Frame]:
    """The frames of a source, some of them darker."""
    return [
        frame.with_image(frame.picture.linear() * 0.9) if which(frame.index) else frame
        for frame in source.frames()
    ]


def run(
    source: Source,
    frames: Sequence[Frame],
    target: Path,
    *,
    stop: int | None = None,
    config: SinkConfig = EVERY_WINDOW,
) -> int:
    """Write frames from the end of an earlier run on, up to the end or to frame `stop`."""
    sink = VideoSink(source, target, config=config)
    for first in range(sink.finished_frames, len(frames), WINDOW):
        if stop is not None and first >= stop:
            sink._worker.join()
            sink.abort()
            return sink.finished_frames
        sink.write(frames[first : first + WINDOW])
    assert sink.finish().passed
    return sink.finished_frames


def test_a_resumed_file_is_the_unkilled_one(make_video: MakeVideo, tmp_path: Path):
    """Stopped at random frames, within a segment and between two, the H.264 file has the same bytes."""
    config = SinkConfig(min_segment_frames=8, save_interval_s=0.0)
    source = open_video(make_video(ticks=range(0, 18 * 3600, 3600), sound=True))
    frames = changed(source)
    run(source, frames, tmp_path / "unkilled.mp4", config=config)
    draw = random.Random(16)
    for attempt in range(3):
        target = tmp_path / f"{attempt}.mp4"
        stop_frames = sorted(draw.sample(range(2, 16), 2))
        first_frames = [
            run(source, frames, target, stop=stop_frame, config=config) for stop_frame in stop_frames
        ]
        first_frames.append(run(source, frames, target, config=config))
        assert first_frames == [0, *(-(-stop_frame // WINDOW) * WINDOW for stop_frame in stop_frames)], (
            "no window is lost"
        )
        assert target.read_bytes() == (tmp_path / "unkilled.mp4").read_bytes()
        assert not work_dir(target).exists()


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le", "gray", "bgr0"])
@pytest.mark.parametrize("some", [1, 2, 7])
def test_every_picture_of_a_resumed_file_is_that_of_the_unkilled(
    make_video: MakeVideo, tmp_path: Path, pix_fmt: str, some: int
):
    """Lossless, for several pixel formats and an odd size, with every frame changed, every other, or few."""
    clip = make_video("in.mkv", ticks=range(0, 12 * 3600, 3600), size=(37, 51), codec="ffv1", pix_fmt=pix_fmt)
    source = open_video(clip)
    frames = changed(source, lambda index: index % some == 0)
    run(source, frames, tmp_path / "unkilled.mkv")
    run(source, frames, tmp_path / "resumed.mkv", stop=8)
    assert run(source, frames, tmp_path / "resumed.mkv") == 9

    def pictures(path: Path) -> list[np.ndarray]:
        with av.open(str(path)) as container:
            return [flatten_samples(VideoPicture(frame)) for frame in container.decode(video=0)]

    pairs = list(zip(pictures(tmp_path / "unkilled.mkv"), pictures(tmp_path / "resumed.mkv"), strict=True))
    assert len(pairs) == 12
    assert all(np.array_equal(one, other) for one, other in pairs)


def test_a_film_of_photos_goes_on_too(make_photos, tmp_path: Path):
    source = open_folder(make_photos(tmp_path / "in", 9))
    frames = changed(source)
    run(source, frames, tmp_path / "unkilled.mp4")
    run(source, frames, tmp_path / "resumed.mp4", stop=6)
    assert run(source, frames, tmp_path / "resumed.mp4") == 6
    assert (tmp_path / "resumed.mp4").read_bytes() == (tmp_path / "unkilled.mp4").read_bytes()


@pytest.fixture
def make_photos():
    """`make_photos(folder, count)`: numbered images that differ."""

    def make(folder: Path, count: int, *, suffix: str = ".png") -> Path:
        import cv2

        folder.mkdir()
        noise = np.random.default_rng(3).integers(0, 255, (48, 64 + count, 3), np.uint8)
        for number in range(count):
            cv2.imwrite(str(folder / f"{number:03d}{suffix}"), noise[:, number : 64 + number])
        return folder

    return make


def test_a_power_cut_in_a_part_costs_that_part(make_video: MakeVideo, tmp_path: Path):
    """A part without its description is discarded."""
    source, target = open_video(make_video()), tmp_path / "out.mp4"
    frames = changed(source)
    run(source, frames, target, stop=9)
    descriptions = sorted(work_dir(target).glob("0*.json"))
    assert len(descriptions) == 3
    descriptions[-1].unlink()
    assert run(source, frames, target) == 6
    run(source, frames, tmp_path / "unkilled.mp4")
    assert target.read_bytes() == (tmp_path / "unkilled.mp4").read_bytes()


ENCODE = """
import hashlib, sys
import numpy as np, av
from freezeframe.data.media.video_out.encoder_choice import LIBRARIES, encoder_options
noise = np.random.default_rng(1).integers(0, 255, (240, 320 + 80), np.uint8)
digest = hashlib.sha256()
codec = av.CodecContext.create(LIBRARIES[sys.argv[1]], "w")
codec.width, codec.height, codec.pix_fmt, codec.framerate = 320, 240, "yuv420p", 25
codec.options = encoder_options(sys.argv[1])
for k in range(40):
    picture = np.full((360, 320), 128, np.uint8)
    picture[:240] = np.cumsum(noise[:, 2 * k : 2 * k + 320] // 16 - 8, axis=1, dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
    frame.pts = k
    for packet in codec.encode(frame):
        digest.update(bytes(packet))
for packet in codec.encode(None):
    digest.update(bytes(packet))
print(digest.hexdigest())
"""


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_an_encoder_does_not_look_at_what_lay_in_memory(codec: str):
    """Equal pictures give equal streams, whatever the content of uninitialised memory."""

    def stream(filling: int) -> str:
        return subprocess.run(
            [sys.executable, "-c", ENCODE, codec],
            env={**os.environ, "MALLOC_PERTURB_": str(filling)}, check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip

    assert len({stream(filling) for filling in (0, 85, 170)}) == 1


def test_a_source_that_is_replaced_while_it_is_read_gives_no_file(make_video: MakeVideo, tmp_path: Path):
    clip, other = make_video("in.mp4", sound=True), make_video("other.mp4", sound=True, size=(96, 130))
    source, target = open_video(clip), tmp_path / "new" / "out.mp4"
    sink = VideoSink(source, target)
    sink.write(changed(source))
    other.replace(clip)
    with pytest.raises(UnreadableMedia, match=r"in\.mp4: changed while it was read"):
        sink.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"], (
        "neither a file nor a work folder of mixed input"
    )


def test_an_image_that_is_replaced_while_it_is_read_gives_no_folder(make_photos, tmp_path: Path):
    source = open_folder(make_photos(tmp_path / "in", 4))
    sink = ImageFolderSink(source, tmp_path / "out")
    sink.write(changed(source))
    (tmp_path / "in" / "003.png").write_bytes((tmp_path / "in" / "000.png").read_bytes())
    with pytest.raises(UnreadableMedia, match="changed while it was read"):
        sink.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_an_output_that_appears_during_the_work_stays(make_video: MakeVideo, tmp_path: Path):
    source, target = open_video(make_video()), tmp_path / "out.mp4"
    sink = VideoSink(source, target)
    sink.write(changed(source))
    target.write_text("mine")
    with pytest.raises(Exception, match=r"the result is .*out-1\.mp4"):
        sink.finish()
    assert target.read_text() == "mine"
    assert open_video(tmp_path / "out-1.mp4").info.count == 12
    assert not work_dir(target).exists()


@pytest.mark.parametrize("name", ["o.mkv", "images"])
def test_an_output_that_another_run_finished_while_we_waited_for_it_is_seen(
    name: str, make_video: MakeVideo, tmp_path: Path
):
    """Else the work would be repeated and its result rejected."""
    source, target = open_video(make_video("in.mp4")), tmp_path / name
    other = Lock(work_dir(target), target)

    def finish() -> None:
        if target.suffix:
            target.write_bytes(b"theirs")
        else:
            target.mkdir()
            (target / "000000.png").write_bytes(b"theirs")
        other.release()

    threading.Timer(0.2, finish).start()
    with pytest.raises(UnwritableOutput, match="exists already"):
        (VideoSink if target.suffix else ImageFolderSink)(source, target)
    assert not work_dir(target).exists()
