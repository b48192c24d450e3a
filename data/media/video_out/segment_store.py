"""An interrupted encode goes on where it stopped.

The frames of a job are encoded in segments, each a complete stream that starts with a key frame, kept in a
folder beside the output. Inside a segment frame k has the timestamp k; the true times lie beside it, exact,
and are put on the packets when all segments are joined. Finished frames of the running segment are kept in
parts (see parts.py). A segment or part counts once its description is there, which is written last.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.video.stream import VideoStream

from freezeframe.data.media.files.lock import NAME as LOCK
from freezeframe.data.media.files.lock import Lock
from freezeframe.data.media.files.publish import remove, remove_work_dir, save
from freezeframe.data.media.video_in.stream_info import ffmpeg_url

INDEX_TIME_BASE = Fraction(1, 1000)  # Matroska's own tick: frame numbers in it are exact
_FINGERPRINT_BYTES = 1 << 20  # bytes at either end of a source that stand for all of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A run of frames that is done: encoded and safe on disk, or put off, for nothing in it was changed."""

    file: Path | None  # None: as the source has it, and not encoded unless another part of the clip must be
    times: tuple[int, ...]  # ticks of the job's time base, increasing
    last_duration: int  # ticks that the last frame lasts
    reorder_delay: int  # by how many places the encoder brings a frame later than it is shown
    unmodified: bool  # every frame is as the source had it

    @property
    def frames(self) -> int:
        return len(self.times)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some frames of the running segment that are done."""

    file: Path | None  # their pictures; None: no frame was changed
    frames: int
    changed: tuple[int, ...]  # places of the frames that were changed; others are read again


def fingerprint(path: Path) -> str:
    """Tells a file from another and from its own later version, without reading it whole."""
    status = path.stat()
    digest = hashlib.sha256(f"{status.st_size} {status.st_mtime_ns}".encode())
    with path.open("rb") as file:
        digest.update(file.read(_FINGERPRINT_BYTES))
        file.seek(max(0, status.st_size - _FINGERPRINT_BYTES))
        digest.update(file.read(_FINGERPRINT_BYTES))
    return digest.hexdigest()


class SegmentStore:
    """The folder of segments of one output; those of other settings or of another source are thrown away."""

    def __init__(self, folder: Path, identity: str, *, output: Path) -> None:
        self.folder = folder
        self.segments: list[Segment] = []
        self.parts: list[Part] = []  # of the segment that is running
        self._lock = Lock(folder, output)
        identity_file = folder / "job.json"
        if _read_json(identity_file) == {"identity": identity}:
            self.segments = list(self._read_segments())
            self.parts = list(self._read_parts())
            self._remove_stale()
            return
        self.segments = []
        self._remove_stale()
        _write_json(identity_file, {"identity": identity})

    @property
    def frames(self) -> int:
        """How many frames the finished segments hold."""
        return sum(segment.frames for segment in self.segments)

    @property
    def finished_frames(self) -> int:
        """How many frames are done, those of the running segment included."""
        return self.frames + sum(part.frames for part in self.parts)

    @property
    def deferred_segments(self) -> list[int]:
        """The numbers of segments that are not encoded yet."""
        return [number for number, segment in enumerate(self.segments) if segment.file is None]

    @property
    def next_file(self) -> Path:
        """Where the next segment is to be encoded."""
        return self.file(len(self.segments))

    def file(self, number: int) -> Path:
        """Where a segment is to be encoded."""
        return self.folder / f"{number:06d}.mkv"

    def add(self, segment: Segment) -> None:
        """Count a segment as finished. Its parts are needed no more."""
        self._describe(len(self.segments), segment)
        self.segments.append(segment)
        part_count, self.parts = len(self.parts), []
        for number in range(part_count + 1):  # one more may have been begun
            for suffix in (".json", ".mkv"):
                self._part_file(len(self.segments) - 1, number).with_suffix(suffix).unlink(missing_ok=True)

    @property
    def next_part(self) -> Path:
        """Where the next part of the running segment is to be kept."""
        return self._part_file(len(self.segments), len(self.parts))

    def add_part(self, part: Part) -> None:
        """Count some more frames of the running segment as finished."""
        name = part.file and part.file.name
        _write_json(self.next_part.with_suffix(".json"), asdict(part) | {"file": name})
        self.parts.append(part)

    def replace(self, number: int, segment: Segment) -> None:
        """Put an encoded segment in the place of one that was put off."""
        self._describe(number, segment)
        self.segments[number] = segment

    def close(self) -> None:
        """Stop working on it. What is finished stays for the next run; without any, the folder goes too."""
        if self._lock.held and self.finished_frames:
            self._remove_stale()
            self._lock.release()
        else:
            self.discard()

    def discard(self) -> None:
        if self._lock.held:  # else the folder is another run's by now
            remove_work_dir(self.folder)
            self._lock.release()

    def _read_segments(self) -> Iterator[Segment]:
        number = 0
        while record := _read_json(self.folder / f"{number:06d}.json"):
            file = record["file"] and self.folder / record["file"]
            record |= {"file": file, "times": tuple(record["times"])}
            yield Segment(**record)
            number += 1

    def _read_parts(self) -> Iterator[Part]:
        number = 0
        while record := _read_json(self._part_file(len(self.segments), number).with_suffix(".json")):
            file = record["file"] and self.folder / record["file"]
            yield Part(**record | {"file": file, "changed": tuple(record["changed"])})
            number += 1

    def _part_file(self, segment: int, number: int) -> Path:
        return self.folder / f"{segment:06d}-{number:04d}.mkv"

    def _describe(self, number: int, segment: Segment) -> None:
        """The description comes last: a segment counts once it is there."""
        if segment.file is not None:
            with segment.file.open("rb") as file:
                os.fsync(file.fileno())
        name = segment.file and segment.file.name
        _write_json(self.file(number).with_suffix(".json"), asdict(segment) | {"file": name})

    def _remove_stale(self) -> None:
        """Remove what does not count."""
        files = [segment.file for segment in self.segments] + [part.file for part in self.parts]
        valid_names = {"job.json", LOCK, *(file.name for file in files if file)}
        valid_names |= {self.file(number).with_suffix(".json").name for number in range(len(self.segments))}
        segment_number = len(self.segments)
        valid_names |= {
            self._part_file(segment_number, k).with_suffix(".json").name for k in range(len(self.parts))
        }
        for entry in self.folder.iterdir():
            if entry.name not in valid_names:
                remove(entry)


def concatenate_packets(
    segments: list[Segment], *, time_base: Fraction, start_offset: int = 0
) -> Iterator[av.Packet[VideoStream]]:
    """The packets of all segments in decoding order, at their true times.

    Frames are decoded in another order than they are shown, so each is due before its own time. The decoding
    times are the sorted display times, late by the largest reordering of any segment, which keeps every one
    at or before its frame's display time. `start_offset` ticks are taken off all times.
    """
    times = [time - start_offset for segment in segments for time in segment.times]
    times.append(times[-1] + max(1, segments[-1].last_duration))
    reorder_delay = max(segment.reorder_delay for segment in segments)
    step = max(1, (times[-1] - times[0]) // (len(times) - 1))
    first = number = 0
    for segment in segments:
        with av.open(ffmpeg_url(segment.file)) as container:
            for packet in container.demux(video=0):
                if not packet.size or packet.pts is None:
                    continue
                display_index = first + packet.pts
                decode_index = number - reorder_delay
                packet.time_base = time_base
                packet.pts = times[display_index]
                packet.dts = times[decode_index] if decode_index >= 0 else times[0] + decode_index * step
                packet.duration = times[display_index + 1] - times[display_index]
                number += 1
                yield packet
        first += segment.frames


def decode_timestamps(pts: Sequence[int]) -> list[int]:
    """Decoding times of packets in decoding order, given when each is shown: rising, never after that."""
    times = sorted(pts)
    rank = {time: position for position, time in enumerate(times)}
    reorder_delay = max((number - rank[time] for number, time in enumerate(pts)), default=0)
    step = max(1, (times[-1] - times[0]) // max(1, len(times) - 1)) if times else 1
    early_timestamps = [times[0] - k * step for k in range(reorder_delay, 0, -1)] if times else []
    return (early_timestamps + times)[: len(times)]


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _write_json(path: Path, content: dict[str, Any]) -> None:
    save(json.dumps(content).encode(), path)
