"""Books about what goes through a container: packets, tags, chapters."""

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

# Written by the muxer about itself, or true of the old file only.
TECHNICAL = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration"}
SEEN_AND_HEARD = ("video", "audio")
_ADTS_SYNC = 0xFFF0

_NEAR = 1e-4  # degrees, about ten metres: MP4 keeps no more of a place

Span = tuple[Fraction, Fraction]  # from when to when, in seconds
Chapter = tuple[Fraction, Fraction, str]  # start and end in seconds, title


@dataclass(slots=True)
class Ledger:
    """What went through one stream: its packets' times, and their bytes as a hash."""

    kind: str
    codec: str
    tick: Fraction  # seconds
    label: str  # language and title
    timeless: bool  # a cover or thumbnail: shown beside the film, not at a time
    times: array[int] = field(default_factory=lambda: array("q"))
    end: int = 0  # ticks, when the last packet has been shown
    size: int = 0  # bytes
    digest: Any = field(default_factory=hashlib.sha256)

    @classmethod
    def of(cls, stream: Stream) -> Ledger:
        """Empty books of a stream; an attachment is all header, so its books are full at once."""
        language, title = (stream.metadata.get(key, "") for key in ("language", "title"))
        label = ("und" if language in ("", "und") else language) + (f" {title}" if title else "")
        ledger = cls(
            kind=stream.type,
            codec=codec_name(stream),
            tick=stream.time_base or Fraction(1),
            label=label,
            timeless=bool(stream.disposition & Disposition.attached_pic),
        )
        if isinstance(stream, AttachmentStream):
            ledger._add(stream.data)
        return ledger

    @property
    def summary(self) -> str:
        """Size and hash of all payload."""
        return f"{self.size} bytes, sha256 {self.digest.hexdigest()[:16]}"

    @property
    def span(self) -> Span | None:
        """Seconds from when to when there is something to see or hear."""
        return (min(self.times) * self.tick, self.end * self.tick) if self.times else None

    def enter(self, packet: av.Packet[Any]) -> None:
        if is_gap(packet, self.codec):
            return
        shown = packet.pts if packet.pts is not None else packet.dts
        hidden = self.kind == "video" and packet.is_discard  # an edit list keeps it off the screen
        if shown is not None and not hidden and not self.timeless:
            self.times.append(shown)
            self.end = max(self.end, shown + (packet.duration or 0))
        self._add(_payload(packet, self.codec))

    def _add(self, content: bytes) -> None:
        self.digest.update(content)
        self.size += len(content)


def is_gap(packet: av.Packet[Any], codec: str) -> bool:
    """Whether a packet only says that no subtitle is shown; MP4 muxers put these in by themselves."""
    return codec == "mov_text" and packet.size == 2


def is_hidden(packet: av.Packet[Any]) -> bool:
    """Whether an edit list hides words or data. Decoders need what comes before a film or its sound."""
    return packet.is_discard and packet.stream.type not in SEEN_AND_HEARD


def codec_name(stream: Stream) -> str:
    """The codec of a stream, also of data that has no decoder."""
    context: Any = stream.codec_context  # None where FFmpeg has no codec of that kind
    if context is not None:
        return str(context.codec.canonical_name)
    return (stream.name if isinstance(stream, DataStream | AttachmentStream) else None) or "unknown"


def tags_of(container: Container) -> dict[str, str]:
    """The container's tags, by lower-case name, without those that are about the file itself."""
    return {k.lower(): v for k, v in container.metadata.items() if k.lower() not in TECHNICAL}


def same_tag(key: str, value: str, got: Mapping[str, str]) -> bool:
    """Whether a tag has arrived, in the words that its container has for it."""
    found = got.get(key, got.get(key.partition("-")[0]))  # location-eng may come back as location
    if key == "creation_time":
        moment = _moment(value)
        return moment is None or found == value or moment == _moment(found or "")
    if key.startswith("location") and found is not None:
        return found == value or _near(_place(value), _place(found))
    return found == value


def hull(spans: Iterable[Span]) -> Span:
    """From the first to the last."""
    starts, ends = zip(*spans, strict=True)
    return min(starts), max(ends)


def _moment(words: str) -> datetime | None:
    """A creation time to the second; None where nothing or the beginning of all clocks is meant."""
    try:
        moment = datetime.fromisoformat(words).replace(microsecond=0)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment if moment.timestamp() else None


def _place(words: str) -> list[float]:
    """Latitude, longitude and perhaps height (ISO 6709)."""
    return [float(part) for part in re.findall(r"[+-]\d+(?:\.\d+)?", words)]


def _near(place: list[float], other: list[float]) -> bool:
    return (
        bool(place)
        and len(place) == len(other)
        and all(abs(a - b) <= _NEAR for a, b in zip(place, other, strict=True))
    )


def chapters_in(marks: Iterable[Any]) -> list[Chapter]:
    """PyAV's chapters, in seconds."""
    chapters = []
    for mark in marks:
        tick = mark["time_base"] or Fraction(1)
        chapters.append((mark["start"] * tick, mark["end"] * tick, mark["metadata"].get("title", "")))
    return chapters


def _payload(packet: av.Packet[Any], codec: str) -> bytes:
    """A packet's bytes, without the ADTS header that AAC needs in streams and that files leave out."""
    content = bytes(packet)
    if codec == "aac" and len(content) > 7 and int.from_bytes(content[:2], "big") & 0xFFF6 == _ADTS_SYNC:
        return content[7 if content[1] & 1 else 9 :]
    return content
