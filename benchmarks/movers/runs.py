"""The complete command on one clip, from recorded pictures to pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.accuracy.quality import encode
from benchmarks.timing import seconds_of
from freezeframe.data.media.folder.sink import ImageFolderSink
from freezeframe.data.media.video_in.source import open_video
from freezeframe.data.srgb import SrgbImage, linear_to_srgb
from freezeframe.pipeline.bench.methods import read, write
from freezeframe.pipeline.tasks.video import deblur_video

from .scenes import MoverClip

Codec = Literal["png", "crf18", "crf23"]
CODECS: tuple[Codec, ...] = ("png", "crf18", "crf23")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What the command read and what it wrote, [H, W, 3] uint8 sRGB each."""

    before: Sequence[SrgbImage]  # decoded input
    after: Sequence[SrgbImage]
    seconds: float


def run_command(clip: MoverClip, scratch: Path, *, codec: Codec) -> Run:
    """`deblur_video` with the default options on the clip as PNG files, or as H.264 4:2:0."""
    pictures, output = scratch / "recorded", scratch / "output"
    pictures.mkdir()
    for number, frame in enumerate(clip.frames):
        write(pictures / f"{number:06d}.png", linear_to_srgb(frame))
    source = pictures
    if codec != "png":
        crf = int(codec.removeprefix("crf"))
        source = encode(pictures, scratch / "clip.mp4", crf=crf, pix_fmt="yuv420p")
        pictures = _decode(source, scratch / "decoded")
    seconds = seconds_of(lambda: deblur_video(source, output))
    return Run(before=_read_all(pictures), after=_read_all(output), seconds=seconds)


def _decode(video: Path, folder: Path) -> Path:
    """The frames of a video as the command writes them into a folder when it changes nothing."""
    source = open_video(video)
    sink = ImageFolderSink(source, folder)
    try:
        sink.write(list(source.frames()))
        sink.finish()
    finally:
        sink.abort()
    return folder


def _read_all(folder: Path) -> list[SrgbImage]:
    return [read(path) for path in sorted(folder.glob("*.png"))]
