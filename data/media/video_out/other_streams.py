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

from .stream_digest import Ledger, codec_name, is_hidden

Keeps = Callable[[Fraction], bool]

_NAMES = {"mp4": "MP4", "mov": "QuickTime", "matroska": "Matroska", "webm": "WebM"}
_SAMPLE = 8  # packets of each stream that are tried
_HEAD = 1 << 16  # bytes in which Matroska describes its streams
_BEYOND = Fraction(10)  # seconds; no file stores what belongs together further apart


def carried_streams(
    path: Path, own: int, kind: str, *, keeps: Keeps, end: Fraction | None
) -> tuple[frozenset[int], list[str]]:
    """The streams beside `own` that a file of `kind` can hold, and a note about each that is left out.

    Args:
        path: The source.
        own: The index of its video.
        kind: FFmpeg's name of the output's container.
        keeps: Whether the part asked for holds a time in seconds.
        end: Where that part ends, in seconds; None: with the file.

    Raises:
        UnwritableOutput: Sound that a .mkv would hold cannot be written.
    """
    carried, notes = set(), []
    with open_container(path) as source:
        samples = _samples(source, own, keeps, end)
        for index, packets in samples.items():
            stream = source.streams[index]
            if why := _obstacle(stream, packets, kind):
                _refuse_losing_sound(stream, packets, kind)
                notes.append(f"{_title(stream)} {why} and is left out")
            else:
                carried.add(index)
    return frozenset(carried), notes


def add_copy(out: OutputContainer, stream: Stream) -> Stream:
    """A stream of `out` that takes over another's packets as they are."""
    if is_plain_webvtt(stream):
        copy = out.add_mux_stream("webvtt", time_base=stream.time_base)
    else:
        copy = out.add_stream_from_template(stream, opaque=True)
    copy.metadata.update(stream.metadata)
    copy.disposition = stream.disposition
    return copy


def made_by_muxer(stream: Stream, source: InputContainer) -> bool:
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
        return b"S_TEXT/WEBVTT" in file.read(_HEAD)


def packets_until(source: InputContainer, own: int, end: Fraction | None) -> Iterator[av.Packet[Any]]:
    """All packets up to where stream `own` is well beyond `end`: a trim must not read the whole file."""
    for packet in source.demux():
        yield packet
        timed = end is not None and packet.stream_index == own and packet.dts is not None
        if timed and packet.dts * packet.time_base > end + _BEYOND:  # type: ignore[operator]
            return


def is_cover(stream: Stream) -> bool:
    """Whether a stream is a picture beside the film, which its file says itself."""
    return bool(stream.disposition & Disposition.attached_pic)


def _samples(
    source: InputContainer, own: int, keeps: Keeps, end: Fraction | None
) -> Mapping[int, list[av.Packet[Any]]]:
    """The first packets of every other stream in the part that is kept."""
    others = [s for s in source.streams if s.index != own and not made_by_muxer(s, source)]
    samples: dict[int, list[av.Packet[Any]]] = {stream.index: [] for stream in others}
    waiting = {stream.index for stream in others if not isinstance(stream, AttachmentStream)}
    if end is None:
        source.streams[own].discard = Discard.all  # its packets tell nothing here, and most bytes are its
    for packet in _readable(packets_until(source, own, end)) if waiting else ():
        index = packet.stream_index
        if index in samples and packet.size and _kept(packet, keeps):
            samples[index] += [packet] * (len(samples[index]) < _SAMPLE)
            waiting.discard(index)
        if not waiting:
            break
    return samples


def _kept(packet: av.Packet[Any], keeps: Keeps) -> bool:
    if is_hidden(packet):
        return False
    if is_cover(packet.stream):
        return True
    shown = packet.pts if packet.pts is not None else packet.dts
    return shown is not None and packet.time_base is not None and keeps(shown * packet.time_base)


def _readable(packets: Iterator[av.Packet[Any]]) -> Iterator[av.Packet[Any]]:
    """Packets as far as they can be read; damage is the concern of the pass that decodes."""
    try:
        yield from packets
    except (FFmpegError, OSError):
        return


def _obstacle(stream: Stream, packets: list[av.Packet[Any]], kind: str) -> str | None:
    """Why a stream cannot come along, or None."""
    if stream.type not in ("video", "audio", "subtitle", "data", "attachment"):
        return "is of an unknown kind"
    if stream.type == "data" and codec_name(stream) == "unknown":
        return "is of a format that FFmpeg cannot write"  # it would lose what describes the data
    if not packets and not isinstance(stream, AttachmentStream):
        return "has nothing in it here"
    return None if _survives(stream, packets, kind) else f"cannot be held by {_NAMES[kind]}"


def _survives(stream: Stream, packets: list[av.Packet[Any]], kind: str) -> bool:
    """Whether a file with nothing else in it gives the stream's first packets back as they were."""
    given, file = Ledger.of(stream), io.BytesIO()
    try:
        with av.open(file, "w", format=kind, metadata_errors="surrogateescape") as out:
            copy = add_copy(out, stream)
            out.start_encoding()
            for packet in packets:
                given.enter(packet)
                packet.dts = (packet.pts or 0) if packet.dts is None else packet.dts
                packet.stream = copy
                out.mux_one(packet)
        if is_cover(stream) or not packets:  # covers and fonts cannot be read back by themselves
            return True
        file.seek(0)
        with av.open(file, "r", metadata_errors="surrogateescape") as back:
            found = next((s for s in back.streams if s.type == stream.type), None)
            return found is not None and _payload_of(back, found) == given.summary
    except (FFmpegError, OSError, ValueError):
        return False


def _payload_of(container: InputContainer, stream: Stream) -> str:
    ledger = Ledger.of(stream)
    for packet in container.demux():
        if packet.size and packet.stream_index == stream.index:
            ledger.enter(packet)
    return ledger.summary


def _refuse_losing_sound(stream: Stream, packets: list[av.Packet[Any]], kind: str) -> None:
    """Sound is too much to lose for a suffix."""
    if stream.type == "audio" and packets and kind != "matroska" and _survives(stream, packets, "matroska"):
        raise UnwritableOutput(
            f"{_NAMES[kind]} cannot hold stream {stream.index} of the source (audio, {codec_name(stream)});"
            " write a .mkv"
        )


def _title(stream: Stream) -> str:
    """`stream 4 (data, unknown, GoPro SOS)`."""
    handler = "".join(c for c in stream.metadata.get("handler_name", "") if c.isprintable()).strip()
    words = (stream.type, codec_name(stream).replace("unknown", "unknown codec"), handler)
    return f"stream {stream.index} ({', '.join(filter(None, words))})"
