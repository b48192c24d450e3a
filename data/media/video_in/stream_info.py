"""Properties of a video file, from its headers and its first decoded frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from freezeframe.data.color import ColorSpec
from freezeframe.data.errors import UnreadableMedia
from freezeframe.data.media.files.preflight import reject_pipe

from .frame_picture import VideoPicture

SCHEME = "file:"  # without it FFmpeg takes the text before a colon in a path for a protocol
# Formats that FFmpeg opens but that are not videos: playlists that refer to other files, images, and text
# that it renders as an animated terminal.
_NOT_VIDEO = {"adf", "bin", "concat", "dash", "ffmetadata", "hls", "idf", "image2", "imf"}
_NOT_VIDEO |= {"lrc", "rtsp", "sdp", "tty", "xbin"}
_STILL_DISPOSITIONS = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeConfig:
    """Limits of the probe of an unknown file."""

    default_rate: Fraction = Fraction(25)  # frames per second, if the file states none
    max_rate: int = 2000  # frames per second; a higher declared rate counts ticks, not frames
    long_probe_size: str = "100M"  # bytes to read for a stream without a size in its first packets
    long_probe_duration: str = "60M"  # microseconds, likewise
    packets: int = 200  # packets to read to find out which of several video streams moves


PROBE = ProbeConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoInfo:
    """One video stream, described by its headers and its first frame."""

    path: Path
    container: str
    stream: int  # index in the file
    codec: str
    pix_fmt: str
    width: int  # pixels, as coded
    height: int
    spec: ColorSpec
    tags: tuple[int, int, int, int]  # range, primaries, transfer, matrix (H.273); 2 (range: 0) if untagged
    time_base: Fraction  # seconds per tick
    rate: Fraction  # average frames per second
    count: int | None  # expected number of frames
    declared_packets: int | None  # packets declared by the header
    origin: Fraction  # seconds; zero of a player's clock
    duration: Fraction | None  # seconds
    sample_aspect: Fraction | None  # width over height of a pixel
    display_matrix: tuple[int, ...] | None  # nine numbers as in ISO 14496-12; None: identity
    mastering: bytes | None  # AVMasteringDisplayMetadata of an HDR stream
    light_level: bytes | None  # AVContentLightMetadata
    interlaced: bool
    transparent: bool
    dolby_vision: bool
    bits_per_pixel: float | None  # bits of the file per pixel, sound included

    @property
    def effective_tags(self) -> tuple[int, int, int, int]:
        """The tags, with full range also for formats that imply it: RGB and gray."""
        return 2 if self.spec.full else self.tags[0], *self.tags[1:]

    @property
    def depth(self) -> int:
        """Bits per sample."""
        return self.spec.depth


def ffmpeg_url(path: Path | None) -> str:
    """The URL of a file for FFmpeg."""
    return f"{SCHEME}{path}"


def open_container(path: Path) -> InputContainer:
    """Open a video file.

    Raises:
        UnreadableMedia: The file is missing, a folder, a photo, not readable, or not a video.
    """
    if not path.exists():
        raise UnreadableMedia(f"{path}: there is no such file")
    if path.is_dir():
        raise UnreadableMedia(f"{path}: is a folder; name a video file")
    reject_pipe(path)
    try:
        container = _open(path)
        if any(stream.codec_context and not stream.width for stream in container.streams.video):
            # A broadcast carries its frame size with the next key frame.
            container.close()
            options = {"probesize": PROBE.long_probe_size, "analyzeduration": PROBE.long_probe_duration}
            container = _open(path, options)
    except PermissionError as error:
        raise UnreadableMedia(f"{path}: no permission to read it; change its permissions") from error
    except (FFmpegError, OSError, ValueError) as error:
        is_empty = path.stat().st_size == 0
        reason = "is empty" if is_empty else "is not a video, or was cut off while it was written"
        raise UnreadableMedia(f"{path}: {reason}; check that it plays") from error
    _reject_other_media(container, path)
    return container


def _reject_other_media(container: InputContainer, path: Path) -> None:
    names = set(container.format.name.split(","))
    if names & _NOT_VIDEO or any(name.endswith("_pipe") for name in names):
        container.close()
        kind = container.format.long_name
        if "webp_pipe" in names:
            raise UnreadableMedia(
                f"{path}: WebP is not read as video; save it as GIF or APNG, or as a folder of images"
            )
        raise UnreadableMedia(f"{path}: is not a video but {kind}; for photos use the burst command")


def _open(path: Path, options: dict[str, str] | None = None) -> InputContainer:
    # Tags that are not UTF-8 are passed through byte by byte.
    return av.open(ffmpeg_url(path), "r", metadata_errors="surrogateescape", options=options)


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The main video stream: not a cover image, whether or not it is flagged as one, nor thumbnails."""
    candidates = [
        stream for stream in container.streams.video if not stream.disposition & _STILL_DISPOSITIONS
    ]
    if not candidates:
        raise UnreadableMedia(f"{path}: has no video stream; name a video file")
    moving_indices = _moving_streams(path) if len(candidates) > 1 else ()
    stream = max(
        candidates, key=lambda s: (s.index in moving_indices, bool(s.disposition & Disposition.default))
    )
    if stream.codec_context is None:
        raise UnreadableMedia(f"{path}: its video codec is not supported; convert the file to H.264 or HEVC")
    # With frame threads, FFmpeg's H.264 decoder occasionally returns a frame before its damage is detected.
    # Slice threads are fast enough here and give the same result in every pass.
    stream.thread_type = "SLICE" if stream.codec_context.name == "h264" else "AUTO"
    return stream


def _moving_streams(path: Path) -> Sequence[int]:
    """Indices of the video streams with more than one frame."""
    with _open(path) as container:
        packets = islice(container.demux(container.streams.video), PROBE.packets)
        counts = Counter(packet.stream_index for packet in packets if packet.size)
    return [index for index, count in counts.items() if count > 1]


def display_pts(timed: av.Packet[Any] | av.VideoFrame) -> int | None:
    """The presentation timestamp in ticks; the decoding timestamp if there is none."""
    return timed.pts if timed.pts is not None else timed.dts


def _has_alpha(stream: VideoStream, pix_fmt: str) -> bool:
    """Whether frames carry an alpha channel; VP8 and VP9 store theirs beside the frame."""
    is_tagged = stream.metadata.get("alpha_mode") == "1"
    return is_tagged or any(part.is_alpha for part in av.VideoFormat(pix_fmt).components)


def describe(path: Path, container: InputContainer, stream: VideoStream, picture: VideoPicture) -> VideoInfo:
    """Collect the properties of a stream and of its first decoded picture."""
    frame = picture.frame
    side_data = {data.type.name: bytes(data) for data in _side_data(frame)}
    matrix = np.frombuffer(side_data.get("DISPLAYMATRIX", b""), "<i4")
    rate = frame_rate(stream)
    return VideoInfo(
        path=path,
        container=container.format.name,
        stream=stream.index,
        codec=stream.codec_context.codec.canonical_name,
        pix_fmt=frame.format.name,
        width=frame.width,
        height=frame.height,
        spec=picture.spec,
        tags=(frame.color_range, frame.color_primaries, frame.color_trc, frame.colorspace),
        time_base=stream.time_base or 1 / rate,
        rate=rate,
        count=_count(stream, rate, container),
        declared_packets=_declared_packets(stream) if container.format.name.startswith("mov") else None,
        origin=max(Fraction(0), Fraction(container.start_time or 0, av.time_base)),
        duration=_duration(stream, container),
        sample_aspect=stream.sample_aspect_ratio or None,
        display_matrix=tuple(int(v) for v in matrix) if len(matrix) else None,
        mastering=side_data.get("MASTERING_DISPLAY_METADATA"),
        light_level=side_data.get("CONTENT_LIGHT_LEVEL"),
        interlaced=frame.interlaced_frame,
        transparent=_has_alpha(stream, frame.format.name),
        dolby_vision=any(name.startswith("DOVI") for name in side_data),
        bits_per_pixel=_bits_per_pixel(path, frame, _duration(stream, container), rate),
    )


def _side_data(frame: av.VideoFrame) -> list[Any]:
    container: Any = frame.side_data
    return [container[k] for k in range(len(container))]


def frame_rate(stream: VideoStream) -> Fraction:
    """Declared average frames per second: used for rate control and progress, not for times."""
    rates = (stream.average_rate, stream.guessed_rate, stream.base_rate)
    return next((rate for rate in rates if rate and 0 < rate <= PROBE.max_rate), PROBE.default_rate)


def _bits_per_pixel(
    path: Path, frame: av.VideoFrame, duration: Fraction | None, rate: Fraction
) -> float | None:
    if not duration or duration <= 0:
        return None
    return float(path.stat().st_size * 8 / (frame.width * frame.height * rate * duration))


def _duration(stream: VideoStream, container: InputContainer) -> Fraction | None:
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    return Fraction(container.duration, av.time_base) if container.duration else None


def _declared_packets(stream: VideoStream) -> int | None:
    """Packets declared by the header of an MP4 file, without those removed by its edit list."""
    return min(stream.frames, len(stream.index_entries) or stream.frames) or None


def _count(stream: VideoStream, rate: Fraction, container: InputContainer) -> int | None:
    """Expected frames. The header also counts frames hidden by an edit list; the duration does not."""
    duration = _duration(stream, container)
    frame_count = round(duration * rate) if duration and duration > 0 else 0
    if stream.frames and (not frame_count or frame_count > 0.9 * stream.frames):
        return stream.frames
    return frame_count or None
