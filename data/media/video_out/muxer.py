"""Muxing: the new video and the other streams of the source, packet by packet."""

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
from freezeframe.data.media.video_in.stream_info import VideoInfo, display_pts, ffmpeg_url, open_container

from .other_streams import add_stream_copy, is_muxer_generated, packets_until
from .segment_store import Segment, concatenate_packets, decode_timestamps
from .stream_digest import MUXER_TAGS, StreamRecord, is_gap, is_hidden

_MAX_TIMESCALE = 1 << 30  # ticks per second
# Tags with a standard atom in MP4, by FFmpeg's names.
_MP4_TAGS = {"album", "album_artist", "artist", "comment", "composer", "copyright", "creation_time", "date"}
_MP4_TAGS |= {"description", "episode_id", "genre", "grouping", "location", "location-eng", "lyrics"}
_MP4_TAGS |= {"network", "show", "synopsis", "title", "track"}
MP4 = ("mp4", "mov")


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """Timing and presentation of the video stream, and the requested part of the source."""

    time_base: Fraction  # seconds
    rate: Fraction  # frames per second, on average
    sample_aspect: Fraction | None
    display_matrix: tuple[int, ...] | None
    start: Fraction | None = None  # seconds of the source; becomes zero of the output
    end: Fraction | None = None
    streams: frozenset[int] | None = None  # indices of the other streams to copy; None: all

    @property
    def start_offset(self) -> Fraction:
        return self.start or Fraction(0)

    def contains(self, time: Fraction) -> bool:
        return (self.start is None or time >= self.start) and (self.end is None or time < self.end)


TimedPacket = tuple[float, "av.Packet[Any]", Stream]  # decoding time in seconds, packet, output stream


def mux(
    target: Path, kind: str, *, info: VideoInfo | None, segments: list[Segment], track: Track
) -> tuple[StreamRecord | None, list[StreamRecord]]:
    """Write a video file.

    Args:
        target: The file.
        kind: FFmpeg's name of its container.
        info: The source of the other streams; None if the source is not a video file.
        segments: The encoded video; empty to copy the video of the source.
        track: Timing and presentation of the video.

    Returns:
        Records of the copied video (None if it was encoded) and of the other copied streams.
    """
    with ExitStack() as stack:
        source = stack.enter_context(open_container(info.path)) if info else None
        if segments:
            template = stack.enter_context(_open_first_segment(segments)).streams[0]
        else:
            template = _source_video(source, info)
        out = stack.enter_context(create_container(target, kind, source, track))
        if source and info:
            add_video = partial(_add_video, out, template, track)
            video, routes = add_streams(out, source, info.stream, track.streams, add_video)
        else:
            video, routes = _add_video(out, template, track, None), {}
        records = {index: StreamRecord.of(source.streams[index]) for index in routes} if source else {}
        dts_by_stream: dict[int, Iterator[int]] = {}
        if not segments and info:
            routes[info.stream] = video
            records[info.stream] = StreamRecord.of(template)
            dts_by_stream = _decode_timestamps(info)
        encoded = _encoded(segments, track, video, exact_duration=kind in MP4)
        packets = packets_until(source, info.stream, track.end) if source and info else ()
        _write_packets(out, encoded, _copied(packets, routes, records, track, dts_by_stream))
    video_record = records.pop(info.stream, None) if info else None
    return video_record, [records[index] for index in sorted(records)]


def _write_packets(
    out: OutputContainer, encoded: Iterator[TimedPacket], copied: Iterator[TimedPacket]
) -> None:
    """Interleave two streams of packets by decoding time."""
    for _, packet, stream in heapq.merge(encoded, copied, key=lambda timed_packet: timed_packet[0]):
        if out.format.name in MP4 and not packet.duration:
            packet.duration = 1  # players of MP4 skip samples of zero duration
        packet.stream = stream
        out.mux_one(packet)


def create_container(target: Path, kind: str, source: InputContainer | None, track: Track) -> OutputContainer:
    """An output container with the tags and chapters of the source, without streams."""
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
    # A late start is stored in ticks of the movie: its timescale must be a multiple of that of every stream.
    ticks = [stream.time_base.denominator for stream in source.streams if stream.time_base] if source else []
    timescale = lcm(1000, track.time_base.denominator, *ticks)
    options = {"movie_timescale": str(timescale if timescale <= _MAX_TIMESCALE else 90_000)}
    if not _MP4_TAGS.issuperset(tags):
        # Phones write tags like com.apple.quicktime.make, which fit only in this metadata list.
        options["movflags"] = "use_metadata_tags"
    return options


def add_streams(
    out: OutputContainer,
    source: InputContainer,
    video_index: int,
    copied_indices: frozenset[int] | None,
    add_video: Callable[[Stream], Stream],
) -> tuple[Stream, dict[int, Stream]]:
    """Add the new video in place of stream `video_index`, and copies of others by their source index."""
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
        context.codec_tag = "hvc1"  # the only HEVC tag that Apple's players accept
    if source_stream is not None:
        stream.metadata.update(source_stream.metadata)
        stream.disposition = source_stream.disposition
    return cast(Stream, stream)


def _open_first_segment(segments: list[Segment]) -> InputContainer:
    """The first segment, after a check that all have equal codec headers: the file has one header."""
    headers = set()
    for segment in segments:
        with av.open(ffmpeg_url(segment.file)) as container:
            headers.add(container.streams.video[0].codec_context.extradata)
    if len(headers) > 1:
        raise UnwritableOutput(
            "the segments of the new video differ in their codec headers; rerun from the start"
        )
    return av.open(ffmpeg_url(segments[0].file))


def _source_video(source: InputContainer | None, info: VideoInfo | None) -> Stream:
    if source is None or info is None:
        raise ValueError("without segments there must be a source video to copy")
    return source.streams[info.stream]


def _encoded(
    segments: list[Segment], track: Track, video: Stream, *, exact_duration: bool
) -> Iterator[TimedPacket]:
    """Packets of the encoded video; with `exact_duration` their durations add up in decoding order too."""
    if not segments:
        return
    remaining = segments[-1].times[-1] + segments[-1].last_duration - segments[0].times[0]
    count = sum(segment.frames for segment in segments)
    previous_dts: int | None = None  # ticks
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
    """Packets of the copied streams in the requested part; each is added to its record."""
    for packet in packets:
        index = packet.stream_index
        time_base = packet.time_base
        pts = display_pts(packet)
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
    """Decoding timestamps for a video from Matroska, which stores none; those of demuxers are unreliable."""
    if "matroska" not in info.container:
        return {}
    with open_container(info.path) as container:
        packets = container.demux(container.streams[info.stream])
        return {
            info.stream: iter(decode_timestamps([packet.pts for packet in packets if packet.pts is not None]))
        }


def trim_chapters(source: InputContainer, track: Track) -> list[Any]:
    """The chapters of the source, cut to the requested part."""
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
