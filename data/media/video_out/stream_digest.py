"""Digests of the streams of a container, to compare input and output: packets, tags, chapters."""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import av
from av.container import Container
from av.stream import AttachmentStream, DataStream, Disposition, Stream

from freezeframe.data.media.video_in.stream_info import display_pts

# Tags that the muxer writes itself or that describe the old file only.
MUXER_TAGS = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration"}
AUDIO_VIDEO = ("video", "audio")
_ADTS_SYNC = 0xFFF0

_LOCATION_TOLERANCE_DEG = 1e-4  # degrees, about ten metres: the resolution of MP4

Span = tuple[Fraction, Fraction]  # start and end in seconds
Chapter = tuple[Fraction, Fraction, str]  # start and end in seconds, title


@dataclass(slots=True)
class StreamRecord:
    """The timestamps of the packets of one stream, and a hash of their payload."""

    kind: str
    codec: str
    time_base: Fraction  # seconds
    label: str  # language and title
    is_attached_pic: bool  # a cover image or thumbnail, without a time
    times: array[int] = field(default_factory=lambda: array("q"))
    end: int = 0  # ticks, end of the last packet
    size: int = 0  # bytes
    digest: Any = field(default_factory=hashlib.sha256)

    @classmethod
    def of(cls, stream: Stream) -> StreamRecord:
        """The empty record of a stream; that of an attachment is complete, as it consists of a header."""
        language, title = (stream.metadata.get(key, "") for key in ("language", "title"))
        label = ("und" if language in ("", "und") else language) + (f" {title}" if title else "")
        record = cls(
            kind=stream.type,
            codec=codec_name(stream),
            time_base=stream.time_base or Fraction(1),
            label=label,
            is_attached_pic=is_attached_picture(stream),
        )
        if isinstance(stream, AttachmentStream):
            record._add(stream.data)
        return record

    @property
    def summary(self) -> str:
        """Size and hash of the payload."""
        return f"{self.size} bytes, sha256 {self.digest.hexdigest()[:16]}"

    @property
    def span(self) -> Span | None:
        """Start and end in seconds; None without packets."""
        return (min(self.times) * self.time_base, self.end * self.time_base) if self.times else None

    def add_packet(self, packet: av.Packet[Any]) -> None:
        if is_gap(packet, self.codec):
            return
        pts = display_pts(packet)
        is_hidden_frame = self.kind == "video" and packet.is_discard  # by an edit list
        if pts is not None and not is_hidden_frame and not self.is_attached_pic:
            self.times.append(pts)
            self.end = max(self.end, pts + (packet.duration or 0))
        self._add(_payload(packet, self.codec))

    def _add(self, payload: bytes) -> None:
        self.digest.update(payload)
        self.size += len(payload)


def is_attached_picture(stream: Stream) -> bool:
    """Whether a stream is flagged as a cover image or thumbnail."""
    return bool(stream.disposition & Disposition.attached_pic)


def is_gap(packet: av.Packet[Any], codec: str) -> bool:
    """Whether a packet is an empty subtitle, which MP4 muxers insert between subtitles."""
    return codec == "mov_text" and packet.size == 2


def is_hidden(packet: av.Packet[Any]) -> bool:
    """Whether an edit list hides a subtitle or data packet. Audio and video need theirs for decoding."""
    return packet.is_discard and packet.stream.type not in AUDIO_VIDEO


def codec_name(stream: Stream) -> str:
    """The codec of a stream, also of data without a decoder."""
    context: Any = stream.codec_context  # None where FFmpeg has no codec of that kind
    if context is not None:
        return str(context.codec.canonical_name)
    return (stream.name if isinstance(stream, DataStream | AttachmentStream) else None) or "unknown"


def read_tags(container: Container) -> dict[str, str]:
    """The container's tags by lower-case name, without those of the muxer."""
    return {k.lower(): v for k, v in container.metadata.items() if k.lower() not in MUXER_TAGS}


def same_tag(key: str, value: str, actual_tags: Mapping[str, str]) -> bool:
    """Whether a tag was copied, allowing for the spelling of each container."""
    # The key location-eng may be read back as location.
    actual_value = actual_tags.get(key, actual_tags.get(key.partition("-")[0]))
    if key == "creation_time":
        creation_time = _parse_creation_time(value)
        return (
            creation_time is None
            or actual_value == value
            or creation_time == _parse_creation_time(actual_value or "")
        )
    if key.startswith("location") and actual_value is not None:
        return actual_value == value or _is_close(_parse_location(value), _parse_location(actual_value))
    return actual_value == value


def union_span(spans: Iterable[Span]) -> Span:
    """The smallest span that contains all spans."""
    starts, ends = zip(*spans, strict=True)
    return min(starts), max(ends)


def _parse_creation_time(text: str) -> datetime | None:
    """A creation time to the second; None for an invalid one or the epoch."""
    try:
        creation_time = datetime.fromisoformat(text).replace(microsecond=0)
    except ValueError:
        return None
    creation_time = creation_time if creation_time.tzinfo else creation_time.replace(tzinfo=UTC)
    return creation_time if creation_time.timestamp() else None


def _parse_location(text: str) -> list[float]:
    """Latitude, longitude and optionally altitude (ISO 6709)."""
    return [float(part) for part in re.findall(r"[+-]\d+(?:\.\d+)?", text)]


def _is_close(location: list[float], other_location: list[float]) -> bool:
    return (
        bool(location)
        and len(location) == len(other_location)
        and all(abs(a - b) <= _LOCATION_TOLERANCE_DEG for a, b in zip(location, other_location, strict=True))
    )


def read_chapters(av_chapters: Iterable[Any]) -> list[Chapter]:
    """PyAV's chapters, in seconds."""
    chapters = []
    for av_chapter in av_chapters:
        time_base = av_chapter["time_base"] or Fraction(1)
        chapters.append(
            (
                av_chapter["start"] * time_base,
                av_chapter["end"] * time_base,
                av_chapter["metadata"].get("title", ""),
            )
        )
    return chapters


def _payload(packet: av.Packet[Any], codec: str) -> bytes:
    """The bytes of a packet, without the ADTS header of AAC, which exists in streams but not in files."""
    payload = bytes(packet)
    if codec == "aac" and len(payload) > 7 and int.from_bytes(payload[:2], "big") & 0xFFF6 == _ADTS_SYNC:
        return payload[7 if payload[1] & 1 else 9 :]
    return payload
