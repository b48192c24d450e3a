"""The encoder of one segment, and a trial of the output format."""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError

from freezeframe.data.errors import UnwritableOutput
from freezeframe.data.media.files.error_translation import ffmpeg_message
from freezeframe.data.media.video_in.frame_picture import VideoPicture, convert_format, frame_from_linear
from freezeframe.data.media.video_in.stream_info import ffmpeg_url, open_container
from freezeframe.data.types import Frame, Picture

from .muxer import add_streams, create_container
from .plan import Encoding, Plan
from .segment_store import INDEX_TIME_BASE, Segment

_DTS_OFFSET = 1000  # frames; larger than the reorder delay of any encoder
_TRIAL_PACKETS = 200  # packets of the source in the trial


class SegmentWriter:
    """Encodes frames into one file; frame k has timestamp k."""

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
        image.pict_type = 0  # else the encoder would reuse the I, P and B types of the source
        self._times.append(time)
        self._mux(self._stream.encode(image))

    def close(self) -> Segment:
        """Flush the encoder and finish the file."""
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
        """The input of the encoder: for an unmodified frame the decoded one."""
        encoding = self._plan.encoding
        if frame.picture.size != (
            encoding.height,
            encoding.width,
        ):  # the encoder would read past the end of the frame
            raise UnwritableOutput(f"frame {frame.index} has another size than the first")
        return convert_format(to_video_picture(frame.picture, self._plan), encoding.pix_fmt)

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            self._reorder_delay = max(self._reorder_delay, self._packets - packet.pts)
            # Timestamps are replaced when segments are joined; those of x265 can collide in very short ones.
            packet.dts = self._packets - _DTS_OFFSET
            self._packets += 1
            packet.time_base = INDEX_TIME_BASE
            self._container.mux_one(packet)


def is_unmodified(frame: Frame) -> bool:
    """Whether a frame is as decoded."""
    return isinstance(frame.picture, VideoPicture) and frame.picture.unmodified


def to_video_picture(picture: Picture, plan: Plan) -> VideoPicture:
    """The picture as a video frame of the bit depth of the plan."""
    if isinstance(picture, VideoPicture):
        return picture
    depth = av.VideoFormat(plan.encoding.pix_fmt).components[0].bits
    return VideoPicture(frame_from_linear(picture.linear(), depth=depth), unmodified=False)


def display_time(frame: Frame, plan: Plan) -> tuple[int, int]:
    """Timestamp and duration of a frame, in ticks of the plan's time base."""
    picture, time_base = frame.picture, plan.track.time_base
    duration = picture.frame.duration if isinstance(picture, VideoPicture) and picture.unmodified else None
    return round(frame.time / time_base), duration or round(1 / plan.track.rate / time_base)


def add_encoder(container: OutputContainer, encoding: Encoding) -> Any:
    """Add a video stream with the settings of `encoding`."""
    options = dict(encoding.options)
    if encoding.codec == "av1":
        os.environ.setdefault("SVT_LOG", "1")  # errors only: else SVT-AV1 prints a banner to stderr
    if encoding.codec == "ffv1" and encoding.width == 1:
        options["level"] = "1"  # later versions slice each row
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
    """Mux the beginning of the file to the null device, to test encoder and container before any work.

    Raises:
        UnwritableOutput: The container cannot hold the planned streams.
    """
    if plan.info is None:
        return
    try:
        with open_container(plan.info.path) as source:
            _mux_to_null(plan, source, plan.info.stream)
    except (FFmpegError, ValueError) as error:
        raise UnwritableOutput(
            f"{path}: this kind of file cannot hold {plan.encoding.codec} with the source's other streams"
            f" ({ffmpeg_message(error)}); write a .mkv or the source's own kind"
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
            # Some muxers check a stream only at its first packet.
            if packet.stream_index in routes and packet.dts is not None:
                packet.stream = routes[packet.stream_index]
                out.mux_one(packet)
