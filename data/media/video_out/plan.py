"""What a new video file will be, settled before the first frame is written."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import av

from freezeframe.data.errors import UnreadableMedia, UnwritableOutput
from freezeframe.data.media.files.suffixes import CONTAINERS
from freezeframe.data.media.video_in.frame_picture import layout_of
from freezeframe.data.media.video_in.source import VideoSource
from freezeframe.data.media.video_in.stream_info import VideoInfo, open_container
from freezeframe.data.types import Source

from .encoder_choice import LIBRARIES, Codec, choose_encoder, encoder_options, hdr_options
from .muxer import Track, kept_chapters
from .other_streams import carried_streams
from .segment_store import Segment
from .stream_digest import SEEN_AND_HEARD, Chapter, Ledger, chapters_in, hull, tags_of
from .verify import Promise

_PACES = (Fraction(1), Fraction(120))  # frames per second that every encoder's rate control understands
_USUAL_PACE = Fraction(30)


@runtime_checkable
class Deep(Protocol):
    """A picture that knows how many bits its samples have."""

    @property
    def depth(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """All that an encoder is told."""

    codec: Codec
    pix_fmt: str
    width: int
    height: int
    pace: Fraction  # frames per second, as far as rate control is concerned
    tags: tuple[int, int, int, int]  # range, primaries, transfer, matrix
    sample_aspect: Fraction | None
    options: tuple[tuple[str, str], ...]

    @property
    def library(self) -> str:
        return LIBRARIES[self.codec]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The new file: its container, its video and what comes along."""

    container: str
    encoding: Encoding
    track: Track
    info: VideoInfo | None  # the source whose other streams come along
    copyable: bool  # if no frame is changed, the source's own video may stand
    notes: tuple[str, ...]

    def track_from(self, segments: Sequence[Segment]) -> Track:
        """The track, moved so that a trimmed video begins at zero."""
        if self.track.start is None and self.track.end is None:
            return self.track
        return replace(self.track, start=segments[0].times[0] * self.track.tick)

    def promise(
        self, segments: Sequence[Segment], own: Ledger | None, copied: Sequence[Ledger], track: Track
    ) -> Promise:
        """What the file must hold, for the plumbing sheet."""
        shift = round(track.shift / track.tick)
        times = [time - shift for segment in segments for time in segment.times]
        info, encoding = self.info, self.encoding
        tags, chapters = _about(info, track)
        video = (times[0] * track.tick, (times[-1] + segments[-1].tail) * track.tick)
        spans = [(ledger.kind, ledger.span) for ledger in copied if ledger.span]
        heard = [span for kind, span in spans if kind in SEEN_AND_HEARD]
        codec = info.codec if own and info else encoding.codec
        return Promise(
            own=own,
            video="copied bit for bit: no frame needed work" if own else f"encoded as {codec}",
            codec=codec,
            size=(encoding.height, encoding.width),
            times=times,
            tick=track.tick,
            step=1 / track.rate,
            spans=(hull([video, *heard]), hull([video, *(span for _, span in spans)])),
            depth=info.depth if own and info else layout_of(encoding.pix_fmt).depth,
            tags=info.meaning if own and info else encoding.tags,
            sample_aspect=track.sample_aspect or Fraction(1),
            display_matrix=track.display_matrix,
            mastering=info.mastering if info else None,
            light_level=info.light_level if info else None,
            copied=copied,
            metadata=tags,
            chapters=chapters,
        )


def plan_for(source: Source, path: Path, *, codec: Codec | None, quality: float | None) -> Plan:
    """Settle everything from what was asked for and what the source is."""
    kind = CONTAINERS[path.suffix.lower()]
    holdable = _holdable(kind)
    if codec is not None and codec not in holdable:
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
        info.pix_fmt, info.codec, codec, size=(info.height, info.width), holdable=_holdable(kind)
    )
    options = _joined(
        encoder_options(encoder.codec, quality, richness=info.richness),
        hdr_options(encoder.codec, info.mastering, info.light_level),
    )
    recoded = layout_of(info.pix_fmt).rgb and not layout_of(encoder.pix_fmt).rgb
    span = info.tags[0] if not info.spec.full else 2
    encoding = Encoding(
        codec=encoder.codec,
        pix_fmt=encoder.pix_fmt,
        width=info.width,
        height=info.height,
        pace=_pace(info.rate),
        tags=(1, *info.tags[1:3], 1) if recoded else (span, *info.tags[1:]),
        sample_aspect=info.sample_aspect,
        options=tuple(options.items()),
    )
    track = Track(
        tick=info.time_base,
        rate=info.rate,
        sample_aspect=info.sample_aspect,
        display_matrix=info.display_matrix,
        start=None if source.start is None else source.start + info.origin,
        end=None if source.end is None else source.end + info.origin,
    )
    streams, left_out = carried_streams(info.path, info.stream, kind, keeps=track.keeps, end=track.end)
    asked = codec is not None or quality is not None or source.trimmed
    return Plan(
        container=kind,
        encoding=encoding,
        track=replace(track, streams=streams),
        info=info,
        copyable=not asked,
        notes=(*notes, *left_out),
    )


def _plan_images(source: Source, kind: str, codec: Codec | None, quality: float | None) -> Plan:
    frames = source.frames()
    first = next(iter(frames), None)
    if first is None:
        raise UnreadableMedia(f"{source.name}: has no image in it")
    height, width = first.picture.size
    deep = isinstance(first.picture, Deep) and first.picture.depth > 8
    stem = "yuv444p" if height % 2 or width % 2 else "yuv420p"
    encoder, notes = choose_encoder(
        stem + "10le" * deep, "images", codec, size=(height, width), holdable=_holdable(kind)
    )
    encoding = Encoding(
        codec=encoder.codec,
        pix_fmt=encoder.pix_fmt,
        width=width,
        height=height,
        pace=_pace(source.rate),
        tags=(1, 1, 1, 1),
        sample_aspect=None,
        options=tuple(encoder_options(encoder.codec, quality).items()),
    )
    track = Track(
        tick=Fraction(1, source.rate.numerator), rate=source.rate, sample_aspect=None, display_matrix=None
    )
    return Plan(container=kind, encoding=encoding, track=track, info=None, copyable=False, notes=tuple(notes))


def _pace(rate: Fraction) -> Fraction:
    slowest, fastest = _PACES
    return rate.limit_denominator(1001) if slowest <= rate <= fastest else _USUAL_PACE


def _joined(first: Mapping[str, str], second: Mapping[str, str]) -> dict[str, str]:
    """Both sets of options; those of one name are lists, which are joined."""
    return {**first, **second} | {key: f"{first[key]}:{second[key]}" for key in first.keys() & second.keys()}


@lru_cache(maxsize=8)
def _holdable(kind: str) -> frozenset[Codec]:
    """The codecs that a container can hold."""
    with av.open(os.devnull, "w", format=kind) as container:
        supported = container.supported_codecs
    held = frozenset(codec for codec, library in LIBRARIES.items() if library in supported)
    return held - {"av1"} if kind == "mov" else held  # its list says AV1, its header writer refuses


def _about(info: VideoInfo | None, track: Track) -> tuple[dict[str, str], list[Chapter]]:
    """What the source says about itself and must still be said: tags and chapters."""
    if info is None:
        return {}, []
    with open_container(info.path) as source:
        return tags_of(source), chapters_in(kept_chapters(source, track))
