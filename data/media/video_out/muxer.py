"""Putting a file together: the new video beside everything else of the source, packet by packet."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import lcm
from pathlib import Path
from typing import Any, cast

import av
from av.container import InputContainer, OutputContainer
from av.stream import Stream

from freezeframe.data.errors import UnwritableOutput
from freezeframe.data.media.video_in.stream_info import VideoInfo, ffmpeg_url, open_container

from .other_streams import add_stream_copy, is_muxer_generated, packets_until
from .segment_store import Segment, concatenate_packets, decode_timestamps
from .stream_digest import MUXER_TAGS, StreamRecord, is_gap, is_hidden

_MAX_TIMESCALE = 1 << 30  # ticks per second
# Tags that have a place of their own in MP4, by FFmpeg's names.
_MP4_TAGS = {
    *("album", "album_artist", "artist", "comment", "composer", "copyright", "creation_time"),
    *("date", "track", "location", "location-eng"),
    *(
        "description",
        "episode_id",
        "genre",
        "grouping",
        "lyrics",
        "network",
        "show",
        "synopsis",
        "title",
        "track",
    ),
}
MP4 = ("mp4", "mov")


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """How the video stream is shown, and which part of the source is kept."""

    time_base: Fraction  # seconds
    rate: Fraction  # frames per second, on average
    sample_aspect: Fraction | None
    display_matrix: tuple[int, ...] | None
    start: Fraction | None = None  # seconds of the source; what is kept moves from there to zero
    end: Fraction | None = None
    streams: frozenset[int] | None = None  # others of the source that come along; None: all

    @property
    def start_offset(self) -> Fraction:
        return self.start or Fraction(0)

    def contains(self, time: Fraction) -> bool:
        return (self.start is None or time >= self.start) and (self.end is None or time < self.end)


TimedPacket = tuple[float, "av.Packet[Any]", Stream]  # seconds when it is due, packet, where it goes


def mux(
    target: Path, kind: str, *, info: VideoInfo | None, segments: list[Segment], track: Track
) -> tuple[StreamRecord | None, list[StreamRecord]]:
    """Write the file and tell what was copied into it: the video, if it was, and the other streams.

    Args:
        target: The file.
        kind: FFmpeg's name of its container.
        info: The source whose other streams come along; None if it was no video file.
        segments: The new video; none to copy the source's own.
        track: How the video is shown.
    """
    with ExitStack() as stack:
        source = stack.enter_context(open_container(info.path)) if info else None
        template = (
            stack.enter_context(_open_first_segment(segments)).streams[0]
            if segments
            else _source_video(source, info)
        )
        out = stack.enter_context(create_container(target, kind, source, track))
        if source and info:
            video, routes = add_streams(
                out, source, info.stream, track.streams, partial(_add_video, out, template, track)
            )
        else:
            video, routes = _add_video(out, template, track, None), {}
        records = {index: StreamRecord.of(source.streams[index]) for index in routes} if source else {}
        encoded = _encoded(segments, track, video, exact_duration=kind in MP4)
        dts_by_stream: dict[int, Iterator[int]] = {}
        if not segments and info:
            routes[info.stream] = video
            records[info.stream] = StreamRecord.of(template)
            dts_by_stream = _decode_timestamps(info)
        packets = packets_until(source, info.stream, track.end) if source and info else ()
        copied = _copied(packets, routes, records, track, dts_by_stream)
        for _, packet, stream in heapq.merge(encoded, copied, key=lambda timed_packet: timed_packet[0]):
            if kind in MP4 and not packet.duration:
                packet.duration = 1  # MP4 hides what lasts no time at all
            packet.stream = stream
            out.mux_one(packet)
    video_record = records.pop(info.stream, None) if info else None
    return video_record, [records[index] for index in sorted(records)]


def create_container(target: Path, kind: str, source: InputContainer | None, track: Track) -> OutputContainer:
    """An output container with the tags and chapters of the source, not yet with streams."""
    tags = {k: v for k, v in source.metadata.items() if k.lower() not in MUXER_TAGS} if source else {}
    options = _mp4_options(tags, source, track) if kind in MP4 else {}
    out = av.open(
        ffmpeg_url(target), "w", format=kind, container_options=options, metadata_errors="surrogateescape"
    )
    out.metadata.update(tags)
    if source and (chapters := trim_chapters(source, track)):
        out.set_chapters(chapters)
    return out


def _mp4_options(tags: dict[str, str], source: InputContainer | None, track: Track) -> dict[str, str]:
    # Late starts are noted in ticks of the movie: they must fit those of every stream.
    ticks = [stream.time_base.denominator for stream in source.streams if stream.time_base] if source else []
    timescale = lcm(1000, track.time_base.denominator, *ticks)
    options = {"movie_timescale": str(timescale if timescale <= _MAX_TIMESCALE else 90_000)}
    if not _MP4_TAGS.issuperset(tags):
        # Phones keep place and make under names like com.apple.quicktime.make, which only this list can hold.
        options["movflags"] = "use_metadata_tags"
    return options


def add_streams(
    out: OutputContainer,
    source: InputContainer,
    video_index: int,
    copied_indices: frozenset[int] | None,
    add_video: Callable[[Stream], Stream],
) -> tuple[Stream, dict[int, Stream]]:
    """The new video in the place of stream `video_index`, and what is carried by its index in the source."""
    video = source.streams[video_index]
    routes = {}
    for stream in source.streams:
        if stream.index == video_index:
            video = add_video(stream)
        elif (
            stream.index in copied_indices
            if copied_indices is not None
            else not is_muxer_generated(stream, source)
        ):
            routes[stream.index] = add_stream_copy(out, stream)
    return video, routes


def _add_video(out: OutputContainer, template: Stream, track: Track, source_stream: Stream | None) -> Stream:
    stream: Any = out.add_stream_from_template(template, opaque=True)
    context: Any = stream.codec_context
    context.framerate = track.rate
    stream.time_base = track.time_base
    if track.sample_aspect:
        context.sample_aspect_ratio = track.sample_aspect
    if track.display_matrix:
        stream.set_display_matrix(track.display_matrix)
    if context.codec.canonical_name == "hevc" and out.format.name in MP4:
        context.codec_tag = "hvc1"  # Apple's players know HEVC by this name only
    if source_stream is not None:
        stream.metadata.update(source_stream.metadata)
        stream.disposition = source_stream.disposition
    return cast(Stream, stream)


def _open_first_segment(segments: list[Segment]) -> InputContainer:
    """The first segment, if the others were encoded with the same headers: one header must serve all."""
    headers = set()
    for segment in segments:
        with av.open(ffmpeg_url(segment.file)) as container:
            headers.add(container.streams.video[0].codec_context.extradata)
    if len(headers) > 1:
        raise UnwritableOutput("the parts of the new video differ in their headers; rerun from the start")
    return av.open(ffmpeg_url(segments[0].file))


def _source_video(source: InputContainer | None, info: VideoInfo | None) -> Stream:
    if source is None or info is None:
        raise ValueError("without segments there must be a source whose video is copied")
    return source.streams[info.stream]


def _encoded(
    segments: list[Segment], track: Track, video: Stream, *, exact_duration: bool
) -> Iterator[TimedPacket]:
    """The new video's packets; where asked, their durations add up to the film's in decoding order too."""
    if not segments:
        return
    remaining = segments[-1].times[-1] + segments[-1].last_duration - segments[0].times[0]
    count = sum(segment.frames for segment in segments)
    previous_dts: int | None = None  # ticks at which the packet before was decoded
    packets = concatenate_packets(
        segments, time_base=track.time_base, start_offset=round(track.start_offset / track.time_base)
    )
    for number, packet in enumerate(packets, start=1):
        dts = packet.dts or 0
        remaining -= 0 if previous_dts is None else dts - previous_dts
        previous_dts = dts
        if exact_duration and number == count:
            packet.duration = max(1, remaining)
        yield float(dts * track.time_base), packet, video


def _copied(
    packets: Iterable[av.Packet[Any]],
    routes: dict[int, Stream],
    records: dict[int, StreamRecord],
    track: Track,
    dts_by_stream: dict[int, Iterator[int]],
) -> Iterator[TimedPacket]:
    """The source's packets that fall into the kept part, entered into the ledgers."""
    for packet in packets:
        index = packet.stream_index
        time_base = packet.time_base
        pts = packet.pts if packet.pts is not None else packet.dts
        if index in routes and packet.size and records[index].is_attached_pic:
            pts = packet.pts = packet.dts = round(track.start_offset / time_base)
        if index not in routes or is_gap(packet, records[index].codec) or is_hidden(packet):
            continue
        if pts is None or not track.contains(pts * time_base):
            continue
        start_offset = round(track.start_offset / time_base)
        packet.pts = None if packet.pts is None else packet.pts - start_offset
        packet.dts = pts - start_offset if packet.dts is None else packet.dts - start_offset
        if index in dts_by_stream:
            packet.dts = next(dts_by_stream[index])
        records[index].add_packet(packet)
        yield float((packet.dts or 0) * time_base), packet, routes[index]


def _decode_timestamps(info: VideoInfo) -> dict[int, Iterator[int]]:
    """Decoding times for a video copied out of Matroska, which stores none; readers guess, and err."""
    if "matroska" not in info.container:
        return {}
    with open_container(info.path) as container:
        packets = container.demux(container.streams[info.stream])
        return {
            info.stream: iter(decode_timestamps([packet.pts for packet in packets if packet.pts is not None]))
        }


def trim_chapters(source: InputContainer, track: Track) -> list[Any]:
    """The source's chapters as far as they reach into the kept part."""
    chapters = []
    for chapter in source.chapters():
        time_base = chapter["time_base"] or Fraction(1)
        start, end = chapter["start"] * time_base, chapter["end"] * time_base
        first = start if track.start is None else max(start, track.start)
        last = end if track.end is None else min(end, track.end)
        if first < last or (first == last and not track.start):
            bounds = {
                "start": round((first - track.start_offset) / time_base),
                "end": round((last - track.start_offset) / time_base),
            }
            chapters.append({**chapter, **bounds})
    return chapters
