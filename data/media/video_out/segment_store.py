"""Storage for an encode that can be resumed.

The frames of a job are encoded in segments, each a complete stream that starts with a key frame, in a work
folder beside the output. Frame k of a segment has timestamp k; its exact time is stored beside the segment
and set when the segments are joined. Finished frames of the current segment are saved in parts (see
`segment_parts`). A segment or part is valid once its JSON description exists, which is written last.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.video.stream import VideoStream

from freezeframe.data.media.files.publish import write_atomic
from freezeframe.data.media.files.work_folder import WorkFolder
from freezeframe.data.media.video_in.stream_info import ffmpeg_url

INDEX_TIME_BASE = Fraction(1, 1000)  # Matroska's own tick: frame numbers in it are exact


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Consecutive finished frames: encoded and on disk, or deferred because none was changed."""

    file: Path | None  # None: deferred; encoded only if another frame of the clip is changed
    times: tuple[int, ...]  # ticks of the job's time base, increasing
    last_duration: int  # ticks
    reorder_delay: int  # frames; maximum distance from decoding to display order
    unmodified: bool  # every frame is as decoded

    @property
    def frames(self) -> int:
        return len(self.times)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some finished frames of the current segment."""

    file: Path | None  # the changed frames; None: no frame was changed
    frames: int
    changed: tuple[int, ...]  # indices of the changed frames in the part


class SegmentStore:
    """The work folder of one output; segments of other settings or of another source are removed."""

    def __init__(self, output: Path, identity: str) -> None:
        self._work = WorkFolder(output, identity)
        self.folder = self._work.path
        self.segments: list[Segment] = list(self._read_segments())
        self.parts: list[Part] = list(self._read_parts())  # of the current segment
        self._remove_stale()

    @property
    def frames(self) -> int:
        """Number of frames in finished segments."""
        return sum(segment.frames for segment in self.segments)

    @property
    def finished_frames(self) -> int:
        """Number of finished frames, including those of the current segment."""
        return self.frames + sum(part.frames for part in self.parts)

    @property
    def deferred_segments(self) -> list[int]:
        """Indices of segments that are not encoded."""
        return [number for number, segment in enumerate(self.segments) if segment.file is None]

    @property
    def next_file(self) -> Path:
        """The file of the next segment."""
        return self.file(len(self.segments))

    def file(self, number: int) -> Path:
        """The file of segment `number`."""
        return self.folder / f"{number:06d}.mkv"

    def add(self, segment: Segment) -> None:
        """Record a finished segment, and remove its parts."""
        self._describe(len(self.segments), segment)
        self.segments.append(segment)
        part_count, self.parts = len(self.parts), []
        for number in range(part_count + 1):  # one more may be incomplete
            for suffix in (".json", ".mkv"):
                self._part_file(len(self.segments) - 1, number).with_suffix(suffix).unlink(missing_ok=True)

    @property
    def next_part(self) -> Path:
        """The file of the next part of the current segment."""
        return self._part_file(len(self.segments), len(self.parts))

    def add_part(self, part: Part) -> None:
        """Record a finished part of the current segment."""
        name = part.file and part.file.name
        _write_json(self.next_part.with_suffix(".json"), asdict(part) | {"file": name})
        self.parts.append(part)

    def replace(self, number: int, segment: Segment) -> None:
        """Replace a deferred segment by its encoded one."""
        self._describe(number, segment)
        self.segments[number] = segment

    def close(self) -> None:
        """Release the folder; remove it if no frame is finished."""
        if self._work.held and self.finished_frames:
            self._remove_stale()
            self._work.release(keep=True)
        else:
            self.discard()

    def discard(self) -> None:
        """Remove the folder."""
        self._work.release(keep=False)

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
        """Write the description of a segment, which makes it valid."""
        if segment.file is not None:
            with segment.file.open("rb") as file:
                os.fsync(file.fileno())
        name = segment.file and segment.file.name
        _write_json(self.file(number).with_suffix(".json"), asdict(segment) | {"file": name})

    def _remove_stale(self) -> None:
        """Remove files that belong to no valid segment or part."""
        files = [segment.file for segment in self.segments] + [part.file for part in self.parts]
        count = len(self.segments)
        descriptions = [self.file(number) for number in range(count)]
        descriptions += [self._part_file(count, number) for number in range(len(self.parts))]
        names = {file.name for file in files if file}
        self._work.remove_others(frozenset(names | {file.with_suffix(".json").name for file in descriptions}))


def concatenate_packets(
    segments: list[Segment], *, time_base: Fraction, start_offset: int = 0
) -> Iterator[av.Packet[VideoStream]]:
    """The packets of all segments in decoding order, with their exact timestamps.

    Decoding timestamps are the sorted display timestamps, delayed by the largest reorder delay of any
    segment: none exceeds the display timestamp of its frame. `start_offset` ticks are subtracted from all
    timestamps.
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
    """Increasing decoding timestamps for display timestamps in decoding order; none exceeds its `pts`."""
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
    write_atomic(json.dumps(content).encode(), path)
