"""What a video file says about itself, before it is worked on."""

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
from freezeframe.data.media.files.inputs import reject_pipe

from .frame_picture import VideoPicture

SCHEME = "file:"  # else FFmpeg takes what stands before a colon for a protocol
DEFAULT_FRAME_RATE = Fraction(25)
MAX_FRAME_RATE = 2000  # frames per second; a file that claims more counts ticks, not frames
# What FFmpeg also opens: playlists that lead to other files, pictures, and any text as an animated terminal.
_NOT_VIDEO = {
    *(
        "adf",
        "bin",
        "concat",
        "dash",
        "ffmetadata",
        "hls",
        "idf",
        "image2",
        "imf",
        "lrc",
        "rtsp",
        "sdp",
        "tty",
        "xbin",
    )
}
_LONG_PROBE_OPTIONS = {"probesize": "100M", "analyzeduration": "60M"}  # bytes, microseconds
_PROBE_PACKETS = 200  # packets that show which of several streams moves
_STILL_DISPOSITIONS = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoInfo:
    """One video stream, as its file describes it and as its first frame is."""

    path: Path
    container: str
    stream: int  # index in the file
    codec: str
    pix_fmt: str
    width: int  # pixels, as coded
    height: int
    spec: ColorSpec
    tags: tuple[
        int, int, int, int
    ]  # range, primaries, transfer, matrix (ITU-T H.273), 2 (range: 0) if untagged
    time_base: Fraction  # seconds per tick
    rate: Fraction  # average frames per second
    count: int | None  # frames that there should be
    declared_packets: int | None  # packets that the header promises
    origin: Fraction  # seconds; what players show as zero
    duration: Fraction | None  # seconds
    sample_aspect: Fraction | None  # width over height of a pixel
    display_matrix: tuple[int, ...] | None  # nine numbers as in ISO 14496-12, None: shown as coded
    mastering: bytes | None  # AVMasteringDisplayMetadata of an HDR stream
    light_level: bytes | None  # AVContentLightMetadata
    interlaced: bool
    transparent: bool
    dolby_vision: bool
    bits_per_pixel: float | None  # bits per pixel that the source spends, sound included

    @property
    def effective_tags(self) -> tuple[int, int, int, int]:
        """The tags, with full range also where it lies in the nature of the format: RGB and gray."""
        return 2 if self.spec.full else self.tags[0], *self.tags[1:]

    @property
    def depth(self) -> int:
        """Bits per sample."""
        return self.spec.depth


def ffmpeg_url(path: Path | None) -> str:
    """What FFmpeg calls a file."""
    return f"{SCHEME}{path}"


def open_container(path: Path) -> InputContainer:
    """Open a video file, or say in one sentence why that cannot be done."""
    if not path.exists():
        raise UnreadableMedia(f"{path}: there is no such file")
    if path.is_dir():
        raise UnreadableMedia(f"{path}: is a folder; name a video file")
    reject_pipe(path)
    try:
        container = _open(path)
        if any(stream.codec_context and not stream.width for stream in container.streams.video):
            # A broadcast says how large it is when the next key frame comes.
            container.close()
            container = _open(path, _LONG_PROBE_OPTIONS)
    except PermissionError as error:
        raise UnreadableMedia(f"{path}: may not be read; check the file's permissions") from error
    except (FFmpegError, OSError, ValueError) as error:
        hint = (
            "is empty" if path.stat().st_size == 0 else "is not a video, or was cut off while it was written"
        )
        raise UnreadableMedia(f"{path}: {hint}; check that it plays") from error
    names = set(container.format.name.split(","))
    if names & _NOT_VIDEO or any(name.endswith("_pipe") for name in names):
        container.close()
        kind = container.format.long_name
        if "webp_pipe" in names:
            raise UnreadableMedia(
                f"{path}: WebP is not read as video; save it as GIF or APNG, or as a folder of images"
            )
        raise UnreadableMedia(f"{path}: is not a video but {kind}; for photos use the burst command")
    return container


def _open(path: Path, options: dict[str, str] | None = None) -> InputContainer:
    # Tags that are not UTF-8 are carried through byte by byte.
    return av.open(ffmpeg_url(path), "r", metadata_errors="surrogateescape", options=options)


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The file's moving picture: not its cover, flagged or not, and not its thumbnails."""
    candidates = [
        stream for stream in container.streams.video if not stream.disposition & _STILL_DISPOSITIONS
    ]
    if not candidates:
        raise UnreadableMedia(f"{path}: has no video stream; name a file with moving pictures")
    moving_indices = _moving_streams(path) if len(candidates) > 1 else ()
    stream = max(
        candidates, key=lambda s: (s.index in moving_indices, bool(s.disposition & Disposition.default))
    )
    if stream.codec_context is None:
        raise UnreadableMedia(f"{path}: its video codec is not known here; convert the file to H.264 or HEVC")
    # With a thread per frame, FFmpeg's H.264 decoder hands frames out before their damage is known, now and
    # then; with a thread per slice it is as quick as this project needs, and every pass sees the same.
    stream.thread_type = "SLICE" if stream.codec_context.name == "h264" else "AUTO"
    return stream


def _moving_streams(path: Path) -> Sequence[int]:
    """The streams that hold more than one picture."""
    with _open(path) as container:
        packets = islice(container.demux(container.streams.video), _PROBE_PACKETS)
        counts = Counter(packet.stream_index for packet in packets if packet.size)
    return [index for index, count in counts.items() if count > 1]


def _transparent(stream: VideoStream, pix_fmt: str) -> bool:
    """Whether pictures carry an alpha channel; that of VP8 and VP9 lies beside them."""
    has_alpha_mode = stream.metadata.get("alpha_mode") == "1"
    return has_alpha_mode or any(part.is_alpha for part in av.VideoFormat(pix_fmt).components)


def describe(path: Path, container: InputContainer, stream: VideoStream, picture: VideoPicture) -> VideoInfo:
    """Gather what the file and its first decoded picture say."""
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
        transparent=_transparent(stream, frame.format.name),
        dolby_vision=any(name.startswith("DOVI") for name in side_data),
        bits_per_pixel=_bits_per_pixel(path, frame, _duration(stream, container), rate),
    )


def _side_data(frame: av.VideoFrame) -> list[Any]:
    container: Any = frame.side_data
    return [container[k] for k in range(len(container))]


def frame_rate(stream: VideoStream) -> Fraction:
    """Average frames per second: a claim of the file, good for pace, not for times."""
    rates = (stream.average_rate, stream.guessed_rate, stream.base_rate)
    return next((rate for rate in rates if rate and 0 < rate <= MAX_FRAME_RATE), DEFAULT_FRAME_RATE)


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
    """Packets that an MP4's header promises, without those that its edit list cuts off."""
    return min(stream.frames, len(stream.index_entries) or stream.frames) or None


def _count(stream: VideoStream, rate: Fraction, container: InputContainer) -> int | None:
    """Frames to expect. A header also counts those that an edit list hides; the duration does not."""
    duration = _duration(stream, container)
    frame_count = round(duration * rate) if duration and duration > 0 else 0
    if stream.frames and (not frame_count or frame_count > 0.9 * stream.frames):
        return stream.frames
    return frame_count or None
