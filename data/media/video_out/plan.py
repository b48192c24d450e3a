"""Container, encoding and streams of the output, determined before the first frame is written."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import av

from freezeframe.data.color import FULL
from freezeframe.data.errors import UnreadableMedia, UnwritableOutput
from freezeframe.data.media.files.suffixes import CONTAINERS
from freezeframe.data.media.video_in.planes import planar_layout
from freezeframe.data.media.video_in.source import VideoSource
from freezeframe.data.media.video_in.stream_info import VideoInfo, open_container
from freezeframe.data.types import Picture, Source

from .encoder_choice import LIBRARIES, Codec, Encoder, choose_encoder, encoder_options, hdr_options
from .muxer import Track, trim_chapters
from .other_streams import copyable_streams
from .segment_store import Segment
from .stream_digest import AUDIO_VIDEO, Chapter, StreamRecord, read_chapters, read_tags, union_span
from .verify import ExpectedOutput

_FRAME_RATE_RANGE = (Fraction(1), Fraction(120))  # frames per second; supported by every rate control
_DEFAULT_FRAME_RATE = Fraction(30)
_BT709_TAGS = (1, 1, 1, 1)  # limited range, BT.709 primaries, transfer function and matrix


@runtime_checkable
class HasDepth(Protocol):
    """A picture with a bit depth."""

    @property
    def depth(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """Settings of an encoder."""

    codec: Codec
    pix_fmt: str
    width: int
    height: int
    frame_rate: Fraction  # frames per second, for rate control only
    tags: tuple[int, int, int, int]  # range, primaries, transfer, matrix
    sample_aspect: Fraction | None
    options: tuple[tuple[str, str], ...]

    @property
    def library(self) -> str:
        return LIBRARIES[self.codec]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The output file: its container, its video and the streams to copy."""

    container: str
    encoding: Encoding
    track: Track
    info: VideoInfo | None  # the source of the other streams
    stream_copy: bool  # copy the video of the source if no frame is changed
    notes: tuple[str, ...]

    def trimmed_track(self, segments: Sequence[Segment]) -> Track:
        """The track, with the start of a trimmed video moved to zero."""
        if self.track.start is None and self.track.end is None:
            return self.track
        return replace(self.track, start=segments[0].times[0] * self.track.time_base)

    def expected_output(
        self,
        segments: Sequence[Segment],
        video_record: StreamRecord | None,
        copied_records: Sequence[StreamRecord],
        track: Track,
    ) -> ExpectedOutput:
        """Expected properties of the output, for its verification."""
        start_offset = round(track.start_offset / track.time_base)
        times = [time - start_offset for segment in segments for time in segment.times]
        info, encoding = self.info, self.encoding
        tags, chapters = _read_metadata(info, track)
        video = (times[0] * track.time_base, (times[-1] + segments[-1].last_duration) * track.time_base)
        spans = [(record.kind, record.span) for record in copied_records if record.span]
        audio_video_spans = [span for kind, span in spans if kind in AUDIO_VIDEO]
        codec = info.codec if video_record and info else encoding.codec
        return ExpectedOutput(
            video_record=video_record,
            video="copied bit for bit: no frame was changed" if video_record else f"encoded as {codec}",
            codec=codec,
            size=(encoding.height, encoding.width),
            times=times,
            time_base=track.time_base,
            frame_interval=1 / track.rate,
            spans=(
                union_span([video, *audio_video_spans]),
                union_span([video, *(span for _, span in spans)]),
            ),
            depth=info.depth if video_record and info else planar_layout(encoding.pix_fmt).depth,
            tags=info.effective_tags if video_record and info else encoding.tags,
            sample_aspect=track.sample_aspect or Fraction(1),
            display_matrix=track.display_matrix,
            mastering=info.mastering if info else None,
            light_level=info.light_level if info else None,
            copied_records=copied_records,
            metadata=tags,
            chapters=chapters,
        )


def make_plan(source: Source, path: Path, *, codec: Codec | None, quality: float | None) -> Plan:
    """Plan the output from the options and the properties of the source.

    Raises:
        UnwritableOutput: The container cannot hold the codec or the audio.
    """
    kind = CONTAINERS[path.suffix.lower()]
    supported_codecs = _supported_codecs(kind)
    if codec is not None and codec not in supported_codecs:
        raise UnwritableOutput(f"{path}: a {path.suffix} file cannot hold {codec}; write a .mkv or .mov")
    if isinstance(source, VideoSource):
        try:
            return _plan_video(source, kind, codec, quality)
        except UnwritableOutput as error:
            raise UnwritableOutput(f"{path}: {error}") from error
    return _plan_images(source, kind, codec, quality)


def _plan_video(source: VideoSource, kind: str, codec: Codec | None, quality: float | None) -> Plan:
    info = source.info
    encoder, notes = choose_encoder(
        info.pix_fmt,
        info.codec,
        codec,
        size=(info.height, info.width),
        supported_codecs=_supported_codecs(kind),
    )
    track = _video_track(source)
    streams, dropped_notes = copyable_streams(
        info.path, info.stream, kind, contains=track.contains, end=track.end
    )
    must_encode = codec is not None or quality is not None or source.trimmed
    return Plan(
        container=kind,
        encoding=_video_encoding(info, encoder, quality),
        track=replace(track, streams=streams),
        info=info,
        stream_copy=not must_encode,
        notes=(*notes, *dropped_notes),
    )


def _video_encoding(info: VideoInfo, encoder: Encoder, quality: float | None) -> Encoding:
    """The settings of `encoder` for the frames of a video; RGB is converted to BT.709."""
    options = _merge_options(
        encoder_options(encoder.codec, quality, bits_per_pixel=info.bits_per_pixel),
        hdr_options(encoder.codec, info.mastering, info.light_level),
    )
    is_rgb_to_yuv = planar_layout(info.pix_fmt).rgb and not planar_layout(encoder.pix_fmt).rgb
    color_range = FULL if info.spec.full else info.tags[0]
    return Encoding(
        codec=encoder.codec,
        pix_fmt=encoder.pix_fmt,
        width=info.width,
        height=info.height,
        frame_rate=_clamp_frame_rate(info.rate),
        tags=(1, *info.tags[1:3], 1) if is_rgb_to_yuv else (color_range, *info.tags[1:]),
        sample_aspect=info.sample_aspect,
        options=tuple(options.items()),
    )


def _video_track(source: VideoSource) -> Track:
    info = source.info
    return Track(
        time_base=info.time_base,
        rate=info.rate,
        sample_aspect=info.sample_aspect,
        display_matrix=info.display_matrix,
        start=None if source.start is None else source.start + info.origin,
        end=None if source.end is None else source.end + info.origin,
    )


def _plan_images(source: Source, kind: str, codec: Codec | None, quality: float | None) -> Plan:
    first = next(iter(source.frames()), None)
    if first is None:
        raise UnreadableMedia(f"{source.name}: contains no image")
    encoder, notes = choose_encoder(
        _image_format(first.picture),
        "images",
        codec,
        size=first.picture.size,
        supported_codecs=_supported_codecs(kind),
    )
    height, width = first.picture.size
    encoding = Encoding(
        codec=encoder.codec,
        pix_fmt=encoder.pix_fmt,
        width=width,
        height=height,
        frame_rate=_clamp_frame_rate(source.rate),
        tags=_BT709_TAGS,
        sample_aspect=None,
        options=tuple(encoder_options(encoder.codec, quality).items()),
    )
    time_base = Fraction(1, source.rate.numerator)
    track = Track(time_base=time_base, rate=source.rate, sample_aspect=None, display_matrix=None)
    return Plan(
        container=kind, encoding=encoding, track=track, info=None, stream_copy=False, notes=tuple(notes)
    )


def _image_format(picture: Picture) -> str:
    """The pixel format for images: 4:2:0, or 4:4:4 for odd sizes; 10 bits for images of more than 8."""
    height, width = picture.size
    is_deep = isinstance(picture, HasDepth) and picture.depth > 8
    return ("yuv444p" if height % 2 or width % 2 else "yuv420p") + "10le" * is_deep


def _clamp_frame_rate(rate: Fraction) -> Fraction:
    slowest, fastest = _FRAME_RATE_RANGE
    return rate.limit_denominator(1001) if slowest <= rate <= fastest else _DEFAULT_FRAME_RATE


def _merge_options(first: Mapping[str, str], second: Mapping[str, str]) -> dict[str, str]:
    """Both sets of options; values of a common key are lists, which are joined."""
    return {**first, **second} | {key: f"{first[key]}:{second[key]}" for key in first.keys() & second.keys()}


@lru_cache(maxsize=8)
def _supported_codecs(kind: str) -> frozenset[Codec]:
    """The codecs that a container can hold."""
    with av.open(os.devnull, "w", format=kind) as container:
        supported = container.supported_codecs
    codecs = frozenset(codec for codec, library in LIBRARIES.items() if library in supported)
    # The MOV muxer lists AV1 but cannot write its header.
    return codecs - {"av1"} if kind == "mov" else codecs


def _read_metadata(info: VideoInfo | None, track: Track) -> tuple[dict[str, str], list[Chapter]]:
    """Tags and chapters that the output must have."""
    if info is None:
        return {}, []
    with open_container(info.path) as source:
        return read_tags(source), read_chapters(trim_chapters(source, track))
