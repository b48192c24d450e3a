"""Audio, subtitles, data and attachments: a trial copy shows which the new container can hold."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.stream import AttachmentStream, Discard, Stream

from freezeframe.data.errors import UnwritableOutput
from freezeframe.data.media.video_in.stream_info import SCHEME, display_pts, open_container

from .stream_digest import StreamRecord, codec_name, is_attached_picture, is_hidden

Contains = Callable[[Fraction], bool]

_NAMES = {"mp4": "MP4", "mov": "QuickTime", "matroska": "Matroska", "webm": "WebM"}
_TRIAL_PACKETS = 8  # packets per stream in the trial copy
_HEADER_BYTES = 1 << 16  # bytes at the start of a Matroska file with the stream headers
_MAX_INTERLEAVE_S = Fraction(10)  # seconds; maximum distance in a file between packets of equal time


def copyable_streams(
    path: Path, video_index: int, kind: str, *, contains: Contains, end: Fraction | None
) -> tuple[frozenset[int], list[str]]:
    """The streams besides the video that a container can hold, and a note about each of the others.

    Args:
        path: The source.
        video_index: Index of its video stream.
        kind: FFmpeg's name of the output container.
        contains: Whether a time in seconds lies in the requested part.
        end: End of that part in seconds; None: the end of the file.

    Raises:
        UnwritableOutput: An audio stream cannot be written, although a .mkv could hold it.
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
    """Add a stream to `out` for unchanged packets of `stream`."""
    if is_plain_webvtt(stream):
        copy = out.add_mux_stream("webvtt", time_base=stream.time_base)
    else:
        copy = out.add_stream_from_template(stream, opaque=True)
    copy.metadata.update(stream.metadata)
    copy.disposition = stream.disposition
    return copy


def is_muxer_generated(stream: Stream, source: InputContainer) -> bool:
    """Whether a stream is QuickTime chapter text or timecode, which the muxer creates itself."""
    if stream.type != "data" or not source.format.name.startswith("mov"):
        return False
    # FFmpeg parses chapter text into a list and returns no packets of it.
    chapters = stream.discard == Discard.all and codec_name(stream) == "bin_data"
    return chapters or "timecode" in stream.metadata


def is_plain_webvtt(stream: Stream) -> bool:
    """Whether a stream is WebVTT under Matroska's newer codec ID (S_TEXT/WEBVTT), unknown to FFmpeg."""
    container = stream.container
    unknown = stream.type == "subtitle" and codec_name(stream) == "unknown"
    if not unknown or "matroska" not in container.format.name:
        return False
    with Path(container.name.removeprefix(SCHEME)).open("rb") as file:
        return b"S_TEXT/WEBVTT" in file.read(_HEADER_BYTES)


def packets_until(source: InputContainer, video_index: int, end: Fraction | None) -> Iterator[av.Packet[Any]]:
    """Packets until the video is well beyond `end`, so that a trim does not read the whole file."""
    for packet in source.demux():
        yield packet
        is_timed = end is not None and packet.stream_index == video_index and packet.dts is not None
        if is_timed and packet.dts * packet.time_base > end + _MAX_INTERLEAVE_S:  # type: ignore[operator]
            return


def _samples(
    source: InputContainer, video_index: int, contains: Contains, end: Fraction | None
) -> Mapping[int, list[av.Packet[Any]]]:
    """The first packets of every other stream in the requested part."""
    others = [s for s in source.streams if s.index != video_index and not is_muxer_generated(s, source)]
    samples: dict[int, list[av.Packet[Any]]] = {stream.index: [] for stream in others}
    pending = {stream.index for stream in others if not isinstance(stream, AttachmentStream)}
    if end is None:
        source.streams[video_index].discard = Discard.all  # not needed here, and most of the file
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
    if is_attached_picture(packet.stream):
        return True
    pts = display_pts(packet)
    return pts is not None and packet.time_base is not None and contains(pts * packet.time_base)


def _until_error(packets: Iterator[av.Packet[Any]]) -> Iterator[av.Packet[Any]]:
    """Packets up to the first error; damage is reported by the decoding pass."""
    try:
        yield from packets
    except (FFmpegError, OSError):
        return


def _rejection_reason(stream: Stream, packets: list[av.Packet[Any]], kind: str) -> str | None:
    """Why a stream cannot be copied; None if it can."""
    if stream.type not in ("video", "audio", "subtitle", "data", "attachment"):
        return "is of an unknown kind"
    if stream.type == "data" and codec_name(stream) == "unknown":
        return "is of a format that FFmpeg cannot write"  # the copy would lose its description
    if not packets and not isinstance(stream, AttachmentStream):
        return "has no packets in this part"
    return None if _round_trips(stream, packets, kind) else f"cannot be held by {_NAMES[kind]}"


def _round_trips(stream: Stream, packets: list[av.Packet[Any]], kind: str) -> bool:
    """Whether the first packets of a stream can be written to a file of this kind and read back unchanged."""
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
        if is_attached_picture(stream) or not packets:  # covers and fonts alone cannot be read back
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
    """Raise for an audio stream that this container cannot hold, but Matroska can."""
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
    parts = (stream.type, codec_name(stream).replace("unknown", "unknown codec"), handler)
    return f"stream {stream.index} ({', '.join(filter(None, parts))})"
