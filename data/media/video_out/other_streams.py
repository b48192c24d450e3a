"""What comes along beside the video: each stream is tried in the new kind of file before the work."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.stream import AttachmentStream, Discard, Disposition, Stream

from freezeframe.data.errors import UnwritableOutput
from freezeframe.data.media.video_in.stream_info import SCHEME, open_container

from .stream_digest import StreamRecord, codec_name, is_hidden

Contains = Callable[[Fraction], bool]

_NAMES = {"mp4": "MP4", "mov": "QuickTime", "matroska": "Matroska", "webm": "WebM"}
_TRIAL_PACKETS = 8  # packets of each stream that are tried
_HEADER_BYTES = 1 << 16  # bytes in which Matroska describes its streams
_MAX_INTERLEAVE_S = Fraction(10)  # seconds; no file stores what belongs together further apart


def copyable_streams(
    path: Path, video_index: int, kind: str, *, contains: Contains, end: Fraction | None
) -> tuple[frozenset[int], list[str]]:
    """The streams beside `video_index` that a file of `kind` can hold, and a note about each that is left out.

    Args:
        path: The source.
        video_index: The index of its video.
        kind: FFmpeg's name of the output's container.
        contains: Whether the part asked for holds a time in seconds.
        end: Where that part ends, in seconds; None: with the file.

    Raises:
        UnwritableOutput: Sound that a .mkv would hold cannot be written.
    """
    copyable, notes = set(), []
    with open_container(path) as source:
        samples = _samples(source, video_index, contains, end)
        for index, packets in samples.items():
            stream = source.streams[index]
            if reason := _rejection_reason(stream, packets, kind):
                _reject_audio_loss(stream, packets, kind)
                notes.append(f"{_title(stream)} {reason} and is left out")
            else:
                copyable.add(index)
    return frozenset(copyable), notes


def add_stream_copy(out: OutputContainer, stream: Stream) -> Stream:
    """A stream of `out` that takes over another's packets as they are."""
    if is_plain_webvtt(stream):
        copy = out.add_mux_stream("webvtt", time_base=stream.time_base)
    else:
        copy = out.add_stream_from_template(stream, opaque=True)
    copy.metadata.update(stream.metadata)
    copy.disposition = stream.disposition
    return copy


def is_muxer_generated(stream: Stream, source: InputContainer) -> bool:
    """Chapter text and timecode of QuickTime: the muxer writes them anew from chapters and tags."""
    if stream.type != "data" or not source.format.name.startswith("mov"):
        return False
    # FFmpeg has read chapter text into a list, and hands out no packets of it.
    chapters = stream.discard == Discard.all and codec_name(stream) == "bin_data"
    return chapters or "timecode" in stream.metadata


def is_plain_webvtt(stream: Stream) -> bool:
    """WebVTT under Matroska's newer name (S_TEXT/WEBVTT), which FFmpeg reads as an unknown kind of text."""
    container = stream.container
    unknown = stream.type == "subtitle" and codec_name(stream) == "unknown"
    if not unknown or "matroska" not in container.format.name:
        return False
    with Path(container.name.removeprefix(SCHEME)).open("rb") as file:
        return b"S_TEXT/WEBVTT" in file.read(_HEADER_BYTES)


def packets_until(source: InputContainer, video_index: int, end: Fraction | None) -> Iterator[av.Packet[Any]]:
    """All packets up to where stream `video_index` is well beyond `end`: a trim must not read the whole file."""
    for packet in source.demux():
        yield packet
        is_timed = end is not None and packet.stream_index == video_index and packet.dts is not None
        if is_timed and packet.dts * packet.time_base > end + _MAX_INTERLEAVE_S:  # type: ignore[operator]
            return


def is_cover(stream: Stream) -> bool:
    """Whether a stream is a picture beside the film, which its file says itself."""
    return bool(stream.disposition & Disposition.attached_pic)


def _samples(
    source: InputContainer, video_index: int, contains: Contains, end: Fraction | None
) -> Mapping[int, list[av.Packet[Any]]]:
    """The first packets of every other stream in the part that is kept."""
    others = [s for s in source.streams if s.index != video_index and not is_muxer_generated(s, source)]
    samples: dict[int, list[av.Packet[Any]]] = {stream.index: [] for stream in others}
    pending = {stream.index for stream in others if not isinstance(stream, AttachmentStream)}
    if end is None:
        source.streams[
            video_index
        ].discard = Discard.all  # its packets tell nothing here, and most bytes are its
    for packet in _until_error(packets_until(source, video_index, end)) if pending else ():
        index = packet.stream_index
        if index in samples and packet.size and _is_selected(packet, contains):
            samples[index] += [packet] * (len(samples[index]) < _TRIAL_PACKETS)
            pending.discard(index)
        if not pending:
            break
    return samples


def _is_selected(packet: av.Packet[Any], contains: Contains) -> bool:
    if is_hidden(packet):
        return False
    if is_cover(packet.stream):
        return True
    pts = packet.pts if packet.pts is not None else packet.dts
    return pts is not None and packet.time_base is not None and contains(pts * packet.time_base)


def _until_error(packets: Iterator[av.Packet[Any]]) -> Iterator[av.Packet[Any]]:
    """Packets as far as they can be read; damage is the concern of the pass that decodes."""
    try:
        yield from packets
    except (FFmpegError, OSError):
        return


def _rejection_reason(stream: Stream, packets: list[av.Packet[Any]], kind: str) -> str | None:
    """Why a stream cannot come along, or None."""
    if stream.type not in ("video", "audio", "subtitle", "data", "attachment"):
        return "is of an unknown kind"
    if stream.type == "data" and codec_name(stream) == "unknown":
        return "is of a format that FFmpeg cannot write"  # it would lose what describes the data
    if not packets and not isinstance(stream, AttachmentStream):
        return "has nothing in it here"
    return None if _round_trips(stream, packets, kind) else f"cannot be held by {_NAMES[kind]}"


def _round_trips(stream: Stream, packets: list[av.Packet[Any]], kind: str) -> bool:
    """Whether a file with nothing else in it gives the stream's first packets back as they were."""
    source_record, file = StreamRecord.of(stream), io.BytesIO()
    try:
        with av.open(file, "w", format=kind, metadata_errors="surrogateescape") as out:
            copy = add_stream_copy(out, stream)
            out.start_encoding()
            for packet in packets:
                source_record.add_packet(packet)
                packet.dts = (packet.pts or 0) if packet.dts is None else packet.dts
                packet.stream = copy
                out.mux_one(packet)
        if is_cover(stream) or not packets:  # covers and fonts cannot be read back by themselves
            return True
        file.seek(0)
        with av.open(file, "r", metadata_errors="surrogateescape") as reader:
            read_stream = next((s for s in reader.streams if s.type == stream.type), None)
            return read_stream is not None and _payload_of(reader, read_stream) == source_record.summary
    except (FFmpegError, OSError, ValueError):
        return False


def _payload_of(container: InputContainer, stream: Stream) -> str:
    record = StreamRecord.of(stream)
    for packet in container.demux():
        if packet.size and packet.stream_index == stream.index:
            record.add_packet(packet)
    return record.summary


def _reject_audio_loss(stream: Stream, packets: list[av.Packet[Any]], kind: str) -> None:
    """Sound is too much to lose for a suffix."""
    if (
        stream.type == "audio"
        and packets
        and kind != "matroska"
        and _round_trips(stream, packets, "matroska")
    ):
        raise UnwritableOutput(
            f"{_NAMES[kind]} cannot hold stream {stream.index} of the source (audio, {codec_name(stream)});"
            " write a .mkv"
        )


def _title(stream: Stream) -> str:
    """`stream 4 (data, unknown, GoPro SOS)`."""
    handler = "".join(c for c in stream.metadata.get("handler_name", "") if c.isprintable()).strip()
    words = (stream.type, codec_name(stream).replace("unknown", "unknown codec"), handler)
    return f"stream {stream.index} ({', '.join(filter(None, words))})"
