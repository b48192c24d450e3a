"""Builders of small video files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

MakeVideo = Callable[..., Path]
SUBTITLES = ["first words", "second words"]


def texture(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    """[H, W, 3] uint8 smooth coloured noise: content that is not trivial to encode."""
    rng = np.random.default_rng(seed)
    soft = cv2.GaussianBlur(rng.random((height, width, 3), np.float32), (0, 0), 5)
    soft = (soft - soft.min()) / (soft.max() - soft.min())
    return (40 + 170 * soft).astype(np.uint8)


def moving_frames(count: int, size: tuple[int, int], pix_fmt: str) -> list[av.VideoFrame]:
    """A texture that pans two pixels to the left per frame."""
    height, width = size
    wide = texture(height, width + 2 * count)
    views = (wide[:, 2 * k : 2 * k + width] for k in range(count))
    return [
        av.VideoFrame.from_ndarray(np.ascontiguousarray(view), format="rgb24").reformat(
            format=pix_fmt, dst_colorspace="itu709"
        )
        for view in views
    ]


def add_sound(container: Any, *, start: Fraction, seconds: float) -> Callable[[], None]:
    stream = container.add_stream("aac", rate=48000)
    stream.metadata["language"] = "nor"

    def write() -> None:
        count = int(seconds * 48000)
        tone = np.sin(np.arange(count) * 2 * np.pi * 440 / 48000).astype(np.float32)
        for first in range(0, count, 1024):
            chunk = np.stack([tone[first : first + 1024]] * 2)
            frame = av.AudioFrame.from_ndarray(chunk, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = 48000, int(start * 48000) + first
            frame.time_base = Fraction(1, 48000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))

    return write


def add_subtitles(container: Any, *, codec: str, start: Fraction) -> Callable[[], None]:
    stream = container.add_mux_stream(codec, time_base=Fraction(1, 1000))
    stream.metadata["language"] = "eng"

    def write() -> None:
        for k, line in enumerate(SUBTITLES):
            text = line.encode()
            packet = av.Packet(len(text).to_bytes(2, "big") + text if codec == "mov_text" else text)
            packet.pts = packet.dts = int((start + Fraction(k, 4)) * 1000)
            packet.duration, packet.time_base, packet.stream = 200, Fraction(1, 1000), stream
            container.mux(packet)

    return write


@pytest.fixture
def make_video(tmp_path: Path) -> MakeVideo:
    """Write a small video file and return its path.

    `ticks` are the display times in units of `time_base`; the other options are properties under test.
    """

    def make(
        name: str = "in.mp4",
        *,
        ticks: Sequence[int] = range(0, 12 * 3600, 3600),
        time_base: Fraction = Fraction(1, 90_000),
        size: tuple[int, int] = (96, 128),
        pix_fmt: str = "yuv420p",
        codec: str = "libx264",
        options: dict[str, str] | None = None,
        container_options: dict[str, str] | None = None,
        tags: tuple[int, int, int, int] = (1, 1, 1, 1),
        aspect: Fraction | None = None,
        matrix: Sequence[int] | None = None,
        sound: bool = False,
        subtitles: str | None = None,
        chapters: bool = False,
        metadata: dict[str, str] | None = None,
        stream_metadata: dict[str, str] | None = None,
        part: Callable[[Any], Callable[[], None]] | None = None,
        frames: Sequence[av.VideoFrame] | None = None,
    ) -> Path:
        path = tmp_path / name
        start = ticks[0] * time_base
        with av.open(str(path), "w", container_options=container_options or {}) as container:
            container.metadata.update(metadata or {})
            stream: Any = container.add_stream(codec, rate=25, options=options or {})
            context = stream.codec_context
            context.height, context.width = size
            context.pix_fmt, context.time_base = pix_fmt, time_base
            context.color_range, context.color_primaries, context.color_trc, context.colorspace = tags
            if aspect:
                context.sample_aspect_ratio = aspect
            if matrix:
                stream.set_display_matrix(matrix)
            seconds = float((ticks[-1] - ticks[0]) * time_base) + 0.04
            others = [add_sound(container, start=start, seconds=seconds)] if sound else []
            others += [add_subtitles(container, codec=subtitles, start=start)] if subtitles else []
            others += [part(container)] if part else []
            stream.metadata.update(stream_metadata or {})
            if chapters:
                container.set_chapters(list(_chapters(start)))
            for frame, time in zip(frames or moving_frames(len(ticks), size, pix_fmt), ticks, strict=True):
                frame.pts, frame.time_base = time, time_base
                frame.color_range, frame.color_primaries, frame.color_trc, frame.colorspace = tags
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
            for write in others:
                write()
        return path

    return make


def _chapters(start: Fraction) -> list[dict[str, Any]]:
    return [
        {
            "id": k,
            "start": int(start * 1000) + 200 * k,
            "end": int(start * 1000) + 200 * (k + 1),
            "time_base": Fraction(1, 1000),
            "metadata": {"title": f"part {k + 1}"},
        }
        for k in range(2)
    ]
