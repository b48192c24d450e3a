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
from freezeframe.data.media.files.publish import writing
from freezeframe.data.media.video_in.frame_picture import VideoPicture, converted, frame_showing
from freezeframe.data.media.video_in.stream_info import address, open_container
from freezeframe.data.types import Frame, Picture

from .muxer import add_streams, create
from .plan import Encoding, Plan
from .segment_store import INDEX, Segment

_LONG_BEFORE = 1000  # places; no encoder brings a frame that much later than it is shown
_TRIAL = 200  # packets of the source that are tried before any work


class SegmentWriter:
    """Encodes frames into one file of their own, frame k at time k."""

    def __init__(self, file: Path, plan: Plan) -> None:
        self._file, self._plan = file, plan
        self._times: list[int] = []
        self._tail = 0
        self._delay = self._packets = 0
        self._original = True
        self._container = av.open(address(file), "w", format="matroska")
        self._stream = add_encoder(self._container, plan.encoding)

    @property
    def frames(self) -> int:
        return len(self._times)

    def encode(self, frame: Frame) -> None:
        image = self._image(frame)
        self._original = self._original and is_original(frame)
        time, self._tail = shown(frame, self._plan)
        image.pts, image.time_base = self.frames, 1 / self._plan.encoding.pace
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
            tail=self._tail,
            delay=self._delay,
            original=self._original,
        )

    def abandon(self) -> None:
        with suppress(FFmpegError, OSError, ValueError):
            self._container.close()

    def _image(self, frame: Frame) -> av.VideoFrame:
        """What the encoder gets: an untouched frame is the very one that was decoded."""
        encoding = self._plan.encoding
        if frame.picture.size != (encoding.height, encoding.width):  # it would read past the frame's end
            raise UnwritableOutput(f"frame {frame.index} is of another size than the first")
        return converted(as_video(frame.picture, self._plan), encoding.pix_fmt)

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            self._delay = max(self._delay, self._packets - packet.pts)
            # Only the order counts until segments are joined; x265's own times of very short runs may clash.
            packet.dts = self._packets - _LONG_BEFORE
            self._packets += 1
            packet.time_base = INDEX
            self._container.mux_one(packet)


def is_original(frame: Frame) -> bool:
    """Whether a frame is the very one that was decoded."""
    return isinstance(frame.picture, VideoPicture) and frame.picture.original


def as_video(picture: Picture, plan: Plan) -> VideoPicture:
    """The picture as a frame of video, of the depth that will be encoded."""
    if isinstance(picture, VideoPicture):
        return picture
    depth = av.VideoFormat(plan.encoding.pix_fmt).components[0].bits
    return VideoPicture(frame_showing(picture.linear(), depth=depth), original=False)


def shown(frame: Frame, plan: Plan) -> tuple[int, int]:
    """When a frame is shown and for how long, in ticks of the job."""
    picture, tick = frame.picture, plan.track.tick
    lasts = picture.frame.duration if isinstance(picture, VideoPicture) and picture.original else None
    return round(frame.time / tick), lasts or round(1 / plan.track.rate / tick)


def add_encoder(container: OutputContainer, encoding: Encoding) -> Any:
    """A video stream that encodes as planned."""
    options = dict(encoding.options)
    if encoding.codec == "ffv1" and encoding.width == 1:
        options["level"] = "1"  # its later versions divide each row
    stream: Any = container.add_stream(
        encoding.library, rate=encoding.pace, options=options, time_base=1 / encoding.pace
    )
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = encoding.width, encoding.height, encoding.pix_fmt
    context.color_range, context.color_primaries, context.color_trc, context.colorspace = encoding.tags
    if encoding.sample_aspect:
        context.sample_aspect_ratio = encoding.sample_aspect
    return stream


def rehearse(plan: Plan, path: Path) -> None:
    """Write the file's beginning into nothing, to learn now whether encoder and container take it all."""
    if plan.info is None:
        return
    try:
        with open_container(plan.info.path) as source:
            _write_nowhere(plan, source, plan.info.stream)
    except (FFmpegError, ValueError) as error:
        raise UnwritableOutput(
            f"{path}: this kind of file cannot hold {plan.encoding.codec} with the source's other streams"
            f" ({reason(error)}); write a .mkv or the source's own kind"
        ) from error
    except UnwritableOutput as error:
        raise UnwritableOutput(f"{path}: {error}") from error


def _write_nowhere(plan: Plan, source: InputContainer, own: int) -> None:
    with create(Path(os.devnull), plan.container, source, plan.track) as out:
        _, routes = add_streams(
            out, source, own, plan.track.streams, lambda _: add_encoder(out, plan.encoding)
        )
        out.start_encoding()
        for packet in islice(source.demux(), _TRIAL):
            # Some muxers look at a stream only when its first packet comes.
            if packet.stream_index in routes and packet.dts is not None:
                packet.stream = routes[packet.stream_index]
                out.mux_one(packet)


def reason(error: Exception) -> str:
    """What FFmpeg logged about an error, which tells more than its number."""
    if not isinstance(error, FFmpegError):
        return str(error)
    logged = error.log[1] if error.log else None
    return logged[2].strip() if logged else str(error.strerror)


@contextmanager
def saying_why(path: Path) -> Iterator[None]:
    """Turn what the system or FFmpeg says about a failed write into a sentence about the output."""
    try:
        with writing(path):
            yield
    except FFmpegError as error:
        raise UnwritableOutput(f"{path}: cannot be encoded ({reason(error)})") from error
