"""One segment's encoder, and what is said when it cannot write."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError

from freezeframe.data.errors import UnwritableOutput
from freezeframe.data.media.files.publish import translate_os_errors
from freezeframe.data.media.video_in.frame_picture import VideoPicture, convert_format, frame_from_linear
from freezeframe.data.media.video_in.stream_info import ffmpeg_url, open_container
from freezeframe.data.types import Frame, Picture

from .muxer import add_streams, create_container
from .plan import Encoding, Plan
from .segment_store import INDEX_TIME_BASE, Segment

_DTS_OFFSET = 1000  # places; no encoder brings a frame that much later than it is shown
_TRIAL_PACKETS = 200  # packets of the source that are tried before any work


class SegmentWriter:
    """Encodes frames into one file of their own, frame k at time k."""

    def __init__(self, file: Path, plan: Plan) -> None:
        self._file, self._plan = file, plan
        self._times: list[int] = []
        self._last_duration = 0
        self._reorder_delay = self._packets = 0
        self._unmodified = True
        self._container = av.open(ffmpeg_url(file), "w", format="matroska")
        self._stream = add_encoder(self._container, plan.encoding)

    @property
    def frames(self) -> int:
        return len(self._times)

    def encode(self, frame: Frame) -> None:
        image = self._image(frame)
        self._unmodified = self._unmodified and is_unmodified(frame)
        time, self._last_duration = display_time(frame, self._plan)
        image.pts, image.time_base = self.frames, 1 / self._plan.encoding.frame_rate
        image.pict_type = 0  # else the source's choice of I, P and B would be forced upon the encoder
        self._times.append(time)
        self._mux(self._stream.encode(image))

    def close(self) -> Segment:
        """Empty the encoder and finish the file."""
        self._mux(self._stream.encode(None))
        self._container.close()
        return Segment(
            file=self._file,
            times=tuple(self._times),
            last_duration=self._last_duration,
            reorder_delay=self._reorder_delay,
            unmodified=self._unmodified,
        )

    def abandon(self) -> None:
        with suppress(FFmpegError, OSError, ValueError):
            self._container.close()

    def _image(self, frame: Frame) -> av.VideoFrame:
        """What the encoder gets: an untouched frame is the very one that was decoded."""
        encoding = self._plan.encoding
        if frame.picture.size != (encoding.height, encoding.width):  # it would read past the frame's end
            raise UnwritableOutput(f"frame {frame.index} is of another size than the first")
        return convert_format(to_video_picture(frame.picture, self._plan), encoding.pix_fmt)

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            self._reorder_delay = max(self._reorder_delay, self._packets - packet.pts)
            # Only the order counts until segments are joined; x265's own times of very short runs may clash.
            packet.dts = self._packets - _DTS_OFFSET
            self._packets += 1
            packet.time_base = INDEX_TIME_BASE
            self._container.mux_one(packet)


def is_unmodified(frame: Frame) -> bool:
    """Whether a frame is the very one that was decoded."""
    return isinstance(frame.picture, VideoPicture) and frame.picture.unmodified


def to_video_picture(picture: Picture, plan: Plan) -> VideoPicture:
    """The picture as a frame of video, of the depth that will be encoded."""
    if isinstance(picture, VideoPicture):
        return picture
    depth = av.VideoFormat(plan.encoding.pix_fmt).components[0].bits
    return VideoPicture(frame_from_linear(picture.linear(), depth=depth), unmodified=False)


def display_time(frame: Frame, plan: Plan) -> tuple[int, int]:
    """When a frame is shown and for how long, in ticks of the job."""
    picture, time_base = frame.picture, plan.track.time_base
    duration = picture.frame.duration if isinstance(picture, VideoPicture) and picture.unmodified else None
    return round(frame.time / time_base), duration or round(1 / plan.track.rate / time_base)


def add_encoder(container: OutputContainer, encoding: Encoding) -> Any:
    """A video stream that encodes as planned."""
    options = dict(encoding.options)
    if encoding.codec == "ffv1" and encoding.width == 1:
        options["level"] = "1"  # its later versions divide each row
    stream: Any = container.add_stream(
        encoding.library, rate=encoding.frame_rate, options=options, time_base=1 / encoding.frame_rate
    )
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = encoding.width, encoding.height, encoding.pix_fmt
    context.color_range, context.color_primaries, context.color_trc, context.colorspace = encoding.tags
    if encoding.sample_aspect:
        context.sample_aspect_ratio = encoding.sample_aspect
    return stream


def dry_run_mux(plan: Plan, path: Path) -> None:
    """Write the file's beginning into nothing, to learn now whether encoder and container take it all."""
    if plan.info is None:
        return
    try:
        with open_container(plan.info.path) as source:
            _mux_to_null(plan, source, plan.info.stream)
    except (FFmpegError, ValueError) as error:
        raise UnwritableOutput(
            f"{path}: this kind of file cannot hold {plan.encoding.codec} with the source's other streams"
            f" ({error_text(error)}); write a .mkv or the source's own kind"
        ) from error
    except UnwritableOutput as error:
        raise UnwritableOutput(f"{path}: {error}") from error


def _mux_to_null(plan: Plan, source: InputContainer, video_index: int) -> None:
    with create_container(Path(os.devnull), plan.container, source, plan.track) as out:
        _, routes = add_streams(
            out, source, video_index, plan.track.streams, lambda _: add_encoder(out, plan.encoding)
        )
        out.start_encoding()
        for packet in islice(source.demux(), _TRIAL_PACKETS):
            # Some muxers look at a stream only when its first packet comes.
            if packet.stream_index in routes and packet.dts is not None:
                packet.stream = routes[packet.stream_index]
                out.mux_one(packet)


def error_text(error: Exception) -> str:
    """What FFmpeg logged about an error, which tells more than its number."""
    if not isinstance(error, FFmpegError):
        return str(error)
    log_entry = error.log[1] if error.log else None
    return log_entry[2].strip() if log_entry else str(error.strerror)


@contextmanager
def translate_write_errors(path: Path) -> Iterator[None]:
    """Turn what the system or FFmpeg says about a failed write into a sentence about the output."""
    try:
        with translate_os_errors(path):
            yield
    except FFmpegError as error:
        raise UnwritableOutput(f"{path}: cannot be encoded ({error_text(error)})") from error
