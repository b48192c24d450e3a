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
from freezeframe.data.media.video_in.stream_info import VideoInfo, address, open_container

from .other_streams import add_copy, made_by_muxer, packets_until
from .segment_store import Segment, due_times, joined
from .stream_digest import TECHNICAL, Ledger, is_gap, is_hidden

_FINEST = 1 << 30  # ticks per second
# Tags that have a place of their own in MP4, by FFmpeg's names.
_ITUNES = {
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

    tick: Fraction  # seconds
    rate: Fraction  # frames per second, on average
    sample_aspect: Fraction | None
    display_matrix: tuple[int, ...] | None
    start: Fraction | None = None  # seconds of the source; what is kept moves from there to zero
    end: Fraction | None = None
    streams: frozenset[int] | None = None  # others of the source that come along; None: all

    @property
    def shift(self) -> Fraction:
        return self.start or Fraction(0)

    def keeps(self, time: Fraction) -> bool:
        return (self.start is None or time >= self.start) and (self.end is None or time < self.end)


Timed = tuple[float, "av.Packet[Any]", Stream]  # seconds when it is due, packet, where it goes


def mux(
    target: Path, kind: str, *, info: VideoInfo | None, segments: list[Segment], track: Track
) -> tuple[Ledger | None, list[Ledger]]:
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
        pattern = stack.enter_context(_alike(segments)).streams[0] if segments else _own(source, info)
        out = stack.enter_context(create(target, kind, source, track))
        if source and info:
            video, routes = add_streams(
                out, source, info.stream, track.streams, partial(_add_video, out, pattern, track)
            )
        else:
            video, routes = _add_video(out, pattern, track, None), {}
        ledgers = {index: Ledger.of(source.streams[index]) for index in routes} if source else {}
        encoded = _encoded(segments, track, video, adding_up=kind in MP4)
        due: dict[int, Iterator[int]] = {}
        if not segments and info:
            routes[info.stream] = video
            ledgers[info.stream] = Ledger.of(pattern)
            due = _due_times(info)
        packets = packets_until(source, info.stream, track.end) if source and info else ()
        copied = _copied(packets, routes, ledgers, track, due)
        for _, packet, stream in heapq.merge(encoded, copied, key=lambda timed: timed[0]):
            if kind in MP4 and not packet.duration:
                packet.duration = 1  # MP4 hides what lasts no time at all
            packet.stream = stream
            out.mux_one(packet)
    own = ledgers.pop(info.stream, None) if info else None
    return own, [ledgers[index] for index in sorted(ledgers)]


def create(target: Path, kind: str, source: InputContainer | None, track: Track) -> OutputContainer:
    """An output container with the tags and chapters of the source, not yet with streams."""
    tags = {k: v for k, v in source.metadata.items() if k.lower() not in TECHNICAL} if source else {}
    options = _mp4_options(tags, source, track) if kind in MP4 else {}
    out = av.open(
        address(target), "w", format=kind, container_options=options, metadata_errors="surrogateescape"
    )
    out.metadata.update(tags)
    if source and (chapters := kept_chapters(source, track)):
        out.set_chapters(chapters)
    return out


def _mp4_options(tags: dict[str, str], source: InputContainer | None, track: Track) -> dict[str, str]:
    # Late starts are noted in ticks of the movie: they must fit those of every stream.
    ticks = [stream.time_base.denominator for stream in source.streams if stream.time_base] if source else []
    common = lcm(1000, track.tick.denominator, *ticks)
    options = {"movie_timescale": str(common if common <= _FINEST else 90_000)}
    if not _ITUNES.issuperset(tags):
        # Phones keep place and make under names like com.apple.quicktime.make, which only this list can hold.
        options["movflags"] = "use_metadata_tags"
    return options


def add_streams(
    out: OutputContainer,
    source: InputContainer,
    own: int,
    carried: frozenset[int] | None,
    add_video: Callable[[Stream], Stream],
) -> tuple[Stream, dict[int, Stream]]:
    """The new video in the place of stream `own`, and what is carried by its index in the source."""
    video = source.streams[own]
    routes = {}
    for stream in source.streams:
        if stream.index == own:
            video = add_video(stream)
        elif stream.index in carried if carried is not None else not made_by_muxer(stream, source):
            routes[stream.index] = add_copy(out, stream)
    return video, routes


def _add_video(out: OutputContainer, pattern: Stream, track: Track, old: Stream | None) -> Stream:
    stream: Any = out.add_stream_from_template(pattern, opaque=True)
    context: Any = stream.codec_context
    context.framerate = track.rate
    stream.time_base = track.tick
    if track.sample_aspect:
        context.sample_aspect_ratio = track.sample_aspect
    if track.display_matrix:
        stream.set_display_matrix(track.display_matrix)
    if context.codec.canonical_name == "hevc" and out.format.name in MP4:
        context.codec_tag = "hvc1"  # Apple's players know HEVC by this name only
    if old is not None:
        stream.metadata.update(old.metadata)
        stream.disposition = old.disposition
    return cast(Stream, stream)


def _alike(segments: list[Segment]) -> InputContainer:
    """The first segment, if the others were encoded with the same headers: one header must serve all."""
    headers = set()
    for segment in segments:
        with av.open(address(segment.file)) as container:
            headers.add(container.streams.video[0].codec_context.extradata)
    if len(headers) > 1:
        raise UnwritableOutput("the parts of the new video differ in their headers; rerun from the start")
    return av.open(address(segments[0].file))


def _own(source: InputContainer | None, info: VideoInfo | None) -> Stream:
    if source is None or info is None:
        raise ValueError("without segments there must be a source whose video is copied")
    return source.streams[info.stream]


def _encoded(segments: list[Segment], track: Track, video: Stream, *, adding_up: bool) -> Iterator[Timed]:
    """The new video's packets; where asked, their durations add up to the film's in decoding order too."""
    if not segments:
        return
    left = segments[-1].times[-1] + segments[-1].tail - segments[0].times[0]
    count = sum(segment.frames for segment in segments)
    late: int | None = None  # ticks at which the packet before was decoded
    packets = joined(segments, tick=track.tick, shift=round(track.shift / track.tick))
    for number, packet in enumerate(packets, start=1):
        due = packet.dts or 0
        left -= 0 if late is None else due - late
        late = due
        if adding_up and number == count:
            packet.duration = max(1, left)
        yield float(due * track.tick), packet, video


def _copied(
    packets: Iterable[av.Packet[Any]],
    routes: dict[int, Stream],
    ledgers: dict[int, Ledger],
    track: Track,
    due: dict[int, Iterator[int]],
) -> Iterator[Timed]:
    """The source's packets that fall into the kept part, entered into the ledgers."""
    for packet in packets:
        index = packet.stream_index
        tick = packet.time_base
        shown = packet.pts if packet.pts is not None else packet.dts
        if index in routes and packet.size and ledgers[index].timeless:
            shown = packet.pts = packet.dts = round(track.shift / tick)
        if index not in routes or is_gap(packet, ledgers[index].codec) or is_hidden(packet):
            continue
        if shown is None or not track.keeps(shown * tick):
            continue
        shift = round(track.shift / tick)
        packet.pts = None if packet.pts is None else packet.pts - shift
        packet.dts = shown - shift if packet.dts is None else packet.dts - shift
        if index in due:
            packet.dts = next(due[index])
        ledgers[index].enter(packet)
        yield float((packet.dts or 0) * tick), packet, routes[index]


def _due_times(info: VideoInfo) -> dict[int, Iterator[int]]:
    """Decoding times for a video copied out of Matroska, which stores none; readers guess, and err."""
    if "matroska" not in info.container:
        return {}
    with open_container(info.path) as container:
        packets = container.demux(container.streams[info.stream])
        return {info.stream: iter(due_times([packet.pts for packet in packets if packet.pts is not None]))}


def kept_chapters(source: InputContainer, track: Track) -> list[Any]:
    """The source's chapters as far as they reach into the kept part."""
    kept = []
    for chapter in source.chapters():
        tick = chapter["time_base"] or Fraction(1)
        start, end = chapter["start"] * tick, chapter["end"] * tick
        first = start if track.start is None else max(start, track.start)
        last = end if track.end is None else min(end, track.end)
        if first < last or (first == last and not track.start):
            moved = {"start": round((first - track.shift) / tick), "end": round((last - track.shift) / tick)}
            kept.append({**chapter, **moved})
    return kept
