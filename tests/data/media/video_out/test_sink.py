"""The frames written to the sink are the frames of the file, also after an interruption."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from freezeframe.data.errors import UnwritableOutput
from freezeframe.data.media.files.directories import work_dir
from freezeframe.data.media.video_in.frame_picture import VideoPicture, frame_from_linear
from freezeframe.data.media.video_in.source import open_video
from freezeframe.data.media.video_out.encoder_choice import encoder_options
from freezeframe.data.media.video_out.sink import SinkConfig, VideoSink
from freezeframe.data.types import Frame

MakeVideo = Callable[..., Path]
CODECS = ("h264", "hevc", "av1", "prores", "ffv1")


def lumas(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [VideoPicture(frame).luma().numpy().astype(int) for frame in container.decode(video=0)]


def times(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def modified(frames: Iterator[Frame]) -> list[Frame]:
    """The same pictures, marked as modified, so that the video is not copied."""
    return [frame.with_image(frame.picture.linear()) for frame in frames]


def transcode(source: Path, target: Path, *, batch: int = 1, **options: object) -> VideoSink:
    video = open_video(source)
    sink = VideoSink(video, target, **options)  # type: ignore[arg-type]
    frames = modified(video.frames(first=sink.finished_frames))
    for first in range(0, len(frames), batch):
        sink.write(frames[first : first + batch])
    assert sink.finish().passed
    return sink


@pytest.mark.parametrize("codec", CODECS)
def test_segments_join_without_a_seam(make_video: MakeVideo, tmp_path: Path, codec: str):
    """In segments of eight frames, every frame keeps its content and its time."""
    gaps = [3000, 3003, 2997, 6000, 1501]
    ticks = list(itertools.accumulate((gaps[k % 5] for k in range(29)), initial=0))
    source = make_video(ticks=ticks)
    target = tmp_path / ("out.mkv" if codec == "ffv1" else "out.mov" if codec == "prores" else "out.mp4")
    transcode(source, target, codec=codec, config=SinkConfig(min_segment_frames=8))
    pairs = list(zip(lumas(source), lumas(target), strict=True))
    # The texture moves 2 px per frame: a neighbour differs by several code values on average, the frame
    # itself by less than one at the default quality.
    assert max(np.abs(a - b).mean() for a, b in pairs) < 1.0
    grid = Fraction(1, 2000) if target.suffix == ".mkv" else 0
    assert all(abs(a - b) <= grid for a, b in zip(times(source), times(target), strict=True))


def test_lossless_is_lossless(make_video: MakeVideo, tmp_path: Path):
    source = make_video()
    target = tmp_path / "out.mp4"
    transcode(source, target, quality=0)
    for before, after in zip(lumas(source), lumas(target), strict=True):
        np.testing.assert_array_equal(before, after)


def test_an_interrupted_run_goes_on(make_video: MakeVideo, tmp_path: Path):
    short = SinkConfig(min_segment_frames=4)
    source, target = make_video(), tmp_path / "out.mp4"
    video = open_video(source)
    frames = modified(video.frames())
    broken = VideoSink(video, target, key="a", config=short)
    broken.write(frames[:5])
    broken.write(frames[5:7])
    broken._worker.join()
    broken.abort()
    assert not target.exists()

    other_settings = VideoSink(video, tmp_path / "other.mp4", key="a", config=short)
    assert other_settings.finished_frames == 0
    other_settings.abort()

    sink = VideoSink(video, target, key="a", config=short)
    assert sink.finished_frames == 7, "the frames of the current segment are kept too"
    sink.write(frames[7:])
    assert sink.finish().passed
    assert len(lumas(target)) == len(frames)
    assert not work_dir(target).exists()


@pytest.mark.parametrize("changed", [0, 3, 9, 25])
def test_what_was_put_off_is_encoded_once_a_frame_changes(
    make_video: MakeVideo, tmp_path: Path, changed: int
):
    """Unchanged frames before the first changed one are decoded again: none is lost, repeated or moved."""
    short = SinkConfig(min_segment_frames=4)
    ticks = list(itertools.accumulate((3000 + 7 * (k % 3) for k in range(27)), initial=0))
    source, target = make_video(ticks=ticks), tmp_path / "out.mp4"
    video = open_video(source)
    frames = list(video.frames())
    frames[changed] = modified([frames[changed]])[0]
    sink = VideoSink(video, target, config=short)
    for start in range(0, len(frames), 5):
        sink.write(frames[start : start + 5])
    assert sink.finish().passed
    assert times(target) == times(source)
    pairs = list(zip(lumas(source), lumas(target), strict=True))
    # A neighbour would differ by several code values.
    assert max(np.abs(before - after).mean() for before, after in pairs) < 1.0


def test_a_run_interrupted_before_anything_changed_goes_on(make_video: MakeVideo, tmp_path: Path):
    short = SinkConfig(min_segment_frames=4)
    source, target = make_video(), tmp_path / "out.mp4"
    video = open_video(source)
    frames = list(video.frames())
    broken = VideoSink(video, target, key="a", config=short)
    broken.write(frames[:5])
    broken._worker.join()
    broken.abort()
    assert not list(work_dir(target).glob("*.mkv")), "nothing had to be encoded"
    sink = VideoSink(video, target, key="a", config=short)
    assert sink.finished_frames == 5
    sink.write(modified(frames[5:]))
    assert sink.finish().passed
    pairs = list(zip(lumas(source), lumas(target), strict=True))
    assert max(np.abs(before - after).mean() for before, after in pairs) < 1.0


def test_other_settings_do_not_join(make_video: MakeVideo, tmp_path: Path):
    short = SinkConfig(min_segment_frames=2)
    video, target = open_video(make_video()), tmp_path / "out.mp4"
    first = VideoSink(video, target, key="a", config=short)
    first.write(modified(video.frames())[:3])
    first._worker.join()
    first.abort()
    second = VideoSink(video, target, key="b", config=short)
    assert second.finished_frames == 0
    second.abort()
    assert not work_dir(target).exists()


def test_a_trimmed_part_begins_at_zero(make_video: MakeVideo, tmp_path: Path):
    source = make_video(ticks=range(0, 50 * 3600, 3600), sound=True)
    video = open_video(source, start=0.4, end=1.2)
    target = tmp_path / "out.mp4"
    sink = VideoSink(video, target)
    sink.write(list(video.frames()))
    report = sink.finish()
    assert report.passed, report.text()
    assert times(target) == [Fraction(k, 25) for k in range(20)]
    originals = lumas(source)[10:30]
    assert max(np.abs(a - b).mean() for a, b in zip(originals, lumas(target), strict=True)) < 1.0
    with av.open(str(target)) as container:
        sound = [packet.pts * packet.time_base for packet in container.demux(audio=0) if packet.size]
    assert 0 <= sound[0] < Fraction(1024, 48000)
    assert sound[-1] < Fraction(8, 10)


@pytest.mark.parametrize(
    ("size", "count"),
    [((97, 131), 5), ((96, 128), 1)],
    ids=["odd size", "one frame"],
)
def test_unusual_sizes(make_video: MakeVideo, tmp_path: Path, size: tuple[int, int], count: int):
    source = make_video(ticks=range(0, count * 3600, 3600), size=size, pix_fmt="yuv444p")
    target = tmp_path / "out.mp4"
    transcode(source, target)
    assert [image.shape for image in lumas(target)] == [size] * count


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_keeps_an_odd_size(make_video: MakeVideo, tmp_path: Path, codec: str):
    source = make_video("in.mkv", size=(97, 131), codec="ffv1", ticks=range(0, 7200, 3600))
    target = tmp_path / "out.mkv"
    transcode(source, target, codec=codec)
    assert [image.shape for image in lumas(target)] == [(97, 131)] * 2


def test_a_late_start_stays_late(make_video: MakeVideo, tmp_path: Path):
    source = make_video(ticks=range(135_000, 135_000 + 10 * 3600, 3600), sound=True)
    target = tmp_path / "out.mp4"
    transcode(source, target)
    assert times(target) == times(source)
    assert times(target)[0] == Fraction(3, 2)


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "name"),
    [
        ("libx264", "yuv422p10le", "out.mp4"),
        ("libx265", "yuv420p10le", "out.mp4"),
        ("libx265", "yuv444p12le", "out.mkv"),
        ("ffv1", "yuv422p12le", "out.mkv"),
        ("prores_ks", "yuv422p10le", "out.mov"),
    ],
)
def test_bit_depth_is_kept(make_video: MakeVideo, tmp_path: Path, codec: str, pix_fmt: str, name: str):
    quiet = {"x265-params": "log-level=error"} if codec == "libx265" else {}
    suffix = Path(name).suffix
    source = make_video(f"in{suffix}", codec=codec, pix_fmt=pix_fmt, options=quiet)
    target = tmp_path / name
    transcode(source, target)
    assert open_video(target).info.pix_fmt == pix_fmt


PQ_LIGHT = (
    "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1):max-cll=1000,400"
)


@pytest.mark.parametrize("codec", ["hevc", "h264", "av1"])
@pytest.mark.parametrize(("transfer", "light"), [(16, PQ_LIGHT), (18, "")], ids=["PQ", "HLG"])
def test_hdr_stays_hdr(make_video: MakeVideo, tmp_path: Path, codec: str, transfer: int, light: str):
    source = make_video(
        codec="libx265",
        pix_fmt="yuv420p10le",
        options={"x265-params": f"log-level=error:{light}".rstrip(":")},
        tags=(1, 9, transfer, 9),
    )
    target = tmp_path / "out.mp4"
    transcode(source, target, codec=codec)
    before, after = open_video(source).info, open_video(target).info
    assert (after.tags, after.depth) == ((1, 9, transfer, 9), 10)
    assert after.light_level == before.light_level
    assert (before.mastering is None) == (transfer == 18)


@dataclass(frozen=True)
class Drawn:
    """A picture that is not a video frame."""

    image: torch.Tensor
    depth: int = 8

    @property
    def size(self) -> tuple[int, int]:
        return self.image.shape[1], self.image.shape[2]

    def linear(self) -> torch.Tensor:
        return self.image

    def luma(self) -> torch.Tensor:
        return (self.image[1] * 255).to(torch.uint8)

    def with_linear(self, image: torch.Tensor) -> Drawn:
        return Drawn(image, self.depth)


@dataclass(frozen=True)
class Drawings:
    """A source of drawn pictures."""

    images: Sequence[Drawn]
    name: str = "drawings"
    rate: Fraction = Fraction(30000, 1001)

    @property
    def count(self) -> int:
        return len(self.images)

    def frames(self, *, first: int = 0) -> Iterator[Frame]:
        for k in range(first, self.count):
            yield Frame(index=k, time=k / self.rate, picture=self.images[k])

    def sample_clips(self, runs: int, length: int) -> Iterator[Sequence[Frame]]:
        return iter(())

    def fingerprint(self) -> str:
        return self.name


@pytest.mark.parametrize(("depth", "size"), [(8, (64, 96)), (10, (64, 96)), (8, (63, 95))])
def test_images_become_a_video(tmp_path: Path, depth: int, size: tuple[int, int]):
    """Ramps keep their linear light, up to half an 8-bit step and the loss of the encoder."""
    ramp = torch.linspace(0.05, 0.9, size[1]).expand(3, *size)
    drawings = Drawings([Drawn(ramp * (0.5 + k / 10), depth) for k in range(5)])
    target = tmp_path / "out.mp4"
    sink = VideoSink(drawings, target)
    for frame in drawings.frames():
        sink.write([frame])
    assert sink.finish().passed
    video = open_video(target)
    assert video.info.depth == depth
    for decoded, frame in zip(video.frames(), drawings.frames(), strict=True):
        assert decoded.time == frame.time
        assert (decoded.picture.linear() - frame.picture.linear()).abs().mean() < 0.01


def test_default_light_is_that_of_photos():
    """Linear 0.5 has the code value 16 + 219 * (1.055 * 0.5 ** (1 / 2.4) - 0.055): sRGB, limited range."""
    frame = frame_from_linear(torch.full((3, 16, 16), 0.5), depth=8)
    expected = 16 + 219 * (1.055 * 0.5 ** (1 / 2.4) - 0.055)
    assert abs(int(VideoPicture(frame).luma()[0, 0]) - expected) <= 0.5


class TestRefusals:
    """Outputs that cannot be written are rejected before any work; existing files are unchanged."""

    def test_output_on_input(self, make_video: MakeVideo):
        path = make_video()
        before = path.read_bytes()
        with pytest.raises(UnwritableOutput, match="the input itself"):
            VideoSink(open_video(path), path, force=True)
        assert path.read_bytes() == before

    def test_existing_output(self, make_video: MakeVideo, tmp_path: Path):
        target = tmp_path / "out.mp4"
        target.write_text("mine")
        with pytest.raises(UnwritableOutput, match="--force"):
            VideoSink(open_video(make_video()), target)
        assert target.read_text() == "mine"

    def test_a_folder_made_for_nothing_goes_again(self, make_video: MakeVideo, tmp_path: Path):
        sink = VideoSink(open_video(make_video()), tmp_path / "new" / "deep" / "out.mp4")
        sink.abort()
        assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]

    def test_unknown_kind(self, make_video: MakeVideo, tmp_path: Path):
        with pytest.raises(UnwritableOutput, match=r"\.mkv"):
            VideoSink(open_video(make_video()), tmp_path / "out.xyz")

    def test_sound_is_never_lost_for_a_suffix(self, make_video: MakeVideo, tmp_path: Path):
        with pytest.raises(UnwritableOutput, match="cannot hold stream 1 of the source"):
            VideoSink(open_video(make_video(sound=True)), tmp_path / "out.webm")
        assert list(tmp_path.iterdir()) == [tmp_path / "in.mp4"]

    @pytest.mark.parametrize("codec", ["ffv1", "prores"])
    def test_codec_that_the_container_cannot_hold(self, make_video: MakeVideo, tmp_path: Path, codec: str):
        with pytest.raises(UnwritableOutput, match=f"cannot hold {codec}"):
            VideoSink(open_video(make_video()), tmp_path / "out.webm", codec=codec)

    def test_quality_out_of_range(self, make_video: MakeVideo, tmp_path: Path):
        with pytest.raises(UnwritableOutput, match="quality 99"):
            VideoSink(open_video(make_video()), tmp_path / "out.mp4", quality=99)


def test_a_failing_encoder_is_heard(make_video: MakeVideo, tmp_path: Path):
    """An error on the encoder's thread is raised in the caller."""
    video = open_video(make_video())
    sink = VideoSink(video, tmp_path / "out.mp4")
    odd = VideoPicture(frame_from_linear(torch.zeros(3, 48, 64), depth=8), unmodified=False)
    frames = [Frame(index=k, time=Fraction(k), picture=odd) for k in range(50)]
    with pytest.raises(UnwritableOutput, match="frame 0 has another size"):
        sink.write(frames)
    sink.abort()
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_smaller_quality_is_better():
    assert float(encoder_options("h264", 5)["crf"]) < float(encoder_options("h264")["crf"])


FULL_DISK = """
import resource, signal, sys
from freezeframe.data.media.video_out.sink import SinkConfig, VideoSink
from freezeframe.data.errors import UnwritableOutput
from freezeframe.data.media.video_in.source import open_video

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
video = open_video(sys.argv[1])
for room in map(int, sys.argv[3:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    sink = VideoSink(video, sys.argv[2], quality=1, force=True)
    try:
        for frame in video.frames():
            sink.write([frame])
        sink.finish()
    except UnwritableOutput as error:
        print(error)
    finally:
        sink.abort()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the limit that simulates a full disk is POSIX")
def test_a_full_disk_is_told_and_nothing_is_left(make_video: MakeVideo, tmp_path: Path):
    """Full while frames are encoded, and while the segments are joined."""
    source, target = make_video(sound=True, ticks=range(0, 40 * 3600, 3600)), tmp_path / "out.mp4"
    target.write_text("an earlier result")
    command = [sys.executable, "-c", FULL_DISK, str(source), str(target), "2000", "40000"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert output.count("no space left") == 2
    assert target.read_text() == "an earlier result"


def test_an_import_sets_no_environment_variable():
    """The log level of SVT-AV1 is set when that encoder is opened, not before."""
    code = "import os, freezeframe.data.media.video_out.sink; print('SVT_LOG' in os.environ)"
    environment = {name: value for name, value in os.environ.items() if name != "SVT_LOG"}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"
