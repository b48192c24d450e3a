"""The plumbing sheet: the finished file is opened again, and every promise about it is checked."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from pathlib import Path
from typing import Any

import av

from freezeframe.data.errors import UnreadableMedia
from freezeframe.data.media.video_in.decoder import Decoding
from freezeframe.data.media.video_in.stream_info import VideoInfo, describe, open_container, video_stream

from .encoder_choice import mastering_values
from .stream_digest import Chapter, Span, StreamRecord, read_chapters, read_tags, same_tag

_FULL = 2  # AVCOL_RANGE_JPEG

Timing = tuple[Sequence[int], Fraction]  # ticks, seconds per tick


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One promise and what the finished file says to it."""

    name: str
    expected: str
    actual: str
    passed: bool


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """All promises about one file."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def text(self) -> str:
        """One line per promise, PASS or FAIL first."""
        width = max(len(check.name) for check in self.checks)
        return "\n".join(_format_row(check, width) for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        checks = [{name: getattr(check, name) for name in Check.__slots__} for check in self.checks]
        return {"passed": self.passed, "checks": checks}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedOutput:
    """What a finished file must hold."""

    video: str  # how its pictures came about, in words
    video_record: StreamRecord | None  # of the video, where it was copied
    codec: str
    size: tuple[int, int]  # height, width
    times: Sequence[int]  # ticks, increasing
    time_base: Fraction  # seconds
    frame_interval: Fraction  # seconds from frame to frame, on average
    spans: Sequence[Span]  # of what is seen and heard, and with data and words
    depth: int  # bits per sample
    tags: tuple[int, int, int, int]  # range, primaries, transfer, matrix
    sample_aspect: Fraction
    display_matrix: tuple[int, ...] | None
    mastering: bytes | None
    light_level: bytes | None
    copied_records: Sequence[StreamRecord]
    metadata: Mapping[str, str]
    chapters: Sequence[Chapter]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbedOutput:
    """What a finished file holds."""

    info: VideoInfo
    records: Sequence[StreamRecord]  # of its streams, the video first
    duration: Fraction | None  # seconds, as the file says
    metadata: Mapping[str, str]
    chapters: Sequence[Chapter]

    @property
    def timestamp_resolution(self) -> Fraction:
        """Seconds between the times that the container can write; 0 where it is as fine as any stream."""
        return Fraction(1, 1000) if "matroska" in self.info.container else Fraction(0)


def verify(path: Path, expected_output: ExpectedOutput) -> VerificationReport:
    """Open a finished file and compare it with what was promised."""
    probed = _probe(path)
    return VerificationReport(tuple(_checks(expected_output, probed)))


def _probe(path: Path) -> ProbedOutput:
    with open_container(path) as container:
        stream = video_stream(container, path)
        first = next(Decoding.of(path, container, stream, skip_damaged=False).pictures(), None)
        if first is None:
            raise UnreadableMedia(f"{path}: the new file has no frame in it")
        info = describe(path, container, stream, first[1])
        duration = container.duration
        metadata, chapters = read_tags(container), read_chapters(container.chapters())
    with open_container(path) as container:
        records = {stream.index: StreamRecord.of(stream) for stream in container.streams}
        for packet in container.demux():
            if packet.size or packet.pts is not None:  # the empty ones at the end only flush decoders
                records[packet.stream_index].add_packet(packet)
    return ProbedOutput(
        info=info,
        records=[records.pop(info.stream), *records.values()],
        duration=Fraction(duration, av.time_base) if duration else None,
        metadata=metadata,
        chapters=chapters,
    )


def _checks(expected_output: ExpectedOutput, probed: ProbedOutput) -> Iterator[Check]:
    info, video = probed.info, probed.records[0]
    offset = _start_offset(expected_output, probed)
    yield _check("video", expected_output.codec, info.codec, detail=expected_output.video)
    if expected_output.video_record:
        yield _check("video bytes", expected_output.video_record.summary, video.summary)
    yield _check("frames", len(expected_output.times), len(video.times))
    expected_timing, actual_timing = (
        (expected_output.times, expected_output.time_base),
        (video.times, video.time_base),
    )
    yield _times("timestamps", expected_timing, actual_timing, probed, offset)
    yield from _copies(expected_output, probed, offset)
    yield _check("size", "{1}x{0}".format(*expected_output.size), f"{info.width}x{info.height}")
    yield _check("bit depth", expected_output.depth, info.depth)
    yield _check("colour tags", _tags(expected_output.tags), _tags(info.effective_tags))
    yield _check("sample aspect", expected_output.sample_aspect, info.sample_aspect or Fraction(1))
    matrices = (
        _matrix(side.display_matrix, has_translation=not probed.timestamp_resolution)
        for side in (expected_output, info)
    )
    yield _check("rotation and flip", *matrices)
    if expected_output.mastering or expected_output.light_level:
        light_metadata = (
            _format_light_metadata(side.mastering, side.light_level) for side in (expected_output, info)
        )
        yield _check("HDR mastering", *light_metadata)
    yield _duration(expected_output, probed, offset)
    yield _check(
        "chapters", _chapters(expected_output.chapters, Fraction(0)), _chapters(probed.chapters, offset)
    )
    yield _metadata(expected_output.metadata, probed.metadata)


def _copies(expected_output: ExpectedOutput, probed: ProbedOutput, offset: Fraction) -> Iterator[Check]:
    """Each copied stream against its like in the file: bytes, times, language."""
    actual = list(probed.records[1:])
    for number, source_record in enumerate(expected_output.copied_records, start=1):
        same_kind = [record for record in actual if record.kind == source_record.kind]
        same_codec = [record for record in same_kind if record.codec == source_record.codec]
        output_record = next(iter(same_codec or same_kind), None)
        name = f"{source_record.kind} {number}"
        if output_record is None:
            yield Check(name=name, expected=source_record.codec, actual="is missing", passed=False)
            continue
        actual.remove(output_record)
        yield _check(
            f"{name} bytes",
            source_record.summary,
            output_record.summary,
            detail=f"{source_record.codec}, {source_record.size} bytes identical",
        )
        # PCM is cut into packets as each reader likes; its bytes and its start are what can be compared.
        max_times = 1 if source_record.codec.startswith("pcm_") else None
        expected_times, actual_times = (
            (sorted(side.times)[:max_times], side.time_base) for side in (source_record, output_record)
        )
        if not source_record.is_attached_pic and not output_record.is_attached_pic:
            yield _times(f"{name} times", expected_times, actual_times, probed, offset)
        yield _check(f"{name} language", source_record.label, output_record.label)


def _times(
    name: str, expected_timing: Timing, actual_timing: Timing, probed: ProbedOutput, offset: Fraction
) -> Check:
    """Two lists of times: equal, or as near as the found list's own ticks allow."""
    (times, time_base), (actual, actual_time_base) = expected_timing, actual_timing
    expected = f"all {len(times)} exact"
    if len(times) != len(actual):
        return Check(name=name, expected=expected, actual=f"{len(actual)} times", passed=False)
    unit = lcm(time_base.denominator, actual_time_base.denominator, offset.denominator)
    expected_scale, actual_scale, offset_units = (
        int(part * unit) for part in (time_base, actual_time_base, offset)
    )
    pairs = zip(sorted(times), sorted(actual), strict=True)
    max_error = max((abs(a * expected_scale + offset_units - b * actual_scale) for a, b in pairs), default=0)
    detail = expected if max_error == 0 else f"all {len(times)} within {float(max_error / unit) * 1e3:.3g} ms"
    if probed.timestamp_resolution and max_error:
        detail += " (the container's grid is 1 ms)"
    if offset:
        detail += f", all streams {float(offset) * 1e3:+.0f} ms"
    is_within_tick = actual_time_base <= Fraction(1, 1000) and 2 * max_error <= actual_scale
    return Check(name=name, expected=expected, actual=detail, passed=max_error == 0 or is_within_tick)


def _start_offset(expected_output: ExpectedOutput, probed: ProbedOutput) -> Fraction:
    """How much later Matroska starts all streams together, as it cannot write times before zero."""
    video = probed.records[0]
    if not probed.timestamp_resolution or not video.times:
        return Fraction(0)
    delay = min(video.times) * video.time_base - expected_output.times[0] * expected_output.time_base
    return delay if delay > probed.timestamp_resolution else Fraction(0)


def _duration(expected_output: ExpectedOutput, probed: ProbedOutput, offset: Fraction) -> Check:
    """What the file says of its length: counted from zero or the first frame, with or without data."""
    expected_duration = expected_output.spans[0][1] - expected_output.spans[0][0]
    lengths = [length for start, end in expected_output.spans for length in (end - start, end + offset)]
    actual_duration, tolerance = probed.duration, expected_output.frame_interval + Fraction(1, 20)
    fits = actual_duration is not None and any(
        abs(actual_duration - length) <= tolerance for length in lengths
    )
    actual = (
        "not stated" if actual_duration is None else _seconds(expected_duration if fits else actual_duration)
    )
    return Check(name="duration", expected=_seconds(expected_duration), actual=actual, passed=fits)


def _metadata(expected_tags: Mapping[str, str], actual_tags: Mapping[str, str]) -> Check:
    missing = [key for key, value in expected_tags.items() if not same_tag(key, value, actual_tags)]
    actual = "all there" if not missing else f"lost or changed: {', '.join(missing)}"
    return Check(
        name="tags",
        expected=f"{len(expected_tags)} tags",
        actual=f"{len(expected_tags)}: {actual}",
        passed=not missing,
    )


def _check(name: str, expected: object, actual: object, *, detail: str | None = None) -> Check:
    passed = expected == actual
    return Check(
        name=name, expected=str(expected), actual=detail if detail and passed else str(actual), passed=passed
    )


def _format_row(check: Check, width: int) -> str:
    verdict = "PASS" if check.passed else "FAIL"
    detail = check.actual if check.passed else f"{check.actual} (promised: {check.expected})"
    return f"{verdict}  {check.name:<{width}}  {detail}"


def _tags(tags: tuple[int, int, int, int]) -> str:
    range_name = "full" if tags[0] == _FULL else "limited"  # untagged means limited
    return f"{range_name} range, primaries {tags[1]}, transfer {tags[2]}, matrix {tags[3]}"


def _matrix(matrix: tuple[int, ...] | None, *, has_translation: bool) -> str:
    """Matroska holds no shift of the picture, which players ignore."""
    if matrix and not has_translation:
        matrix = (*matrix[:6], 0, 0, *matrix[8:])
    identity = (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    return "none" if matrix in (None, identity) else " ".join(str(v) for v in matrix or ())


def _format_light_metadata(mastering: bytes | None, light_level: bytes | None) -> str:
    """SMPTE ST 2086 and CTA-861.3 in words, to the digits that every codec keeps."""
    words = "no mastering display"
    if mastering:
        numbers = mastering_values(mastering)
        coordinates = " ".join(f"{float(v):.3f}" for v in numbers[:8])
        words = f"primaries and white {coordinates}, {float(numbers[9]):.0f} cd/m2"
    peak, average = struct.unpack_from("<2I", light_level) if light_level else (0, 0)
    return f"{words}, content {peak}/{average} cd/m2"


def _chapters(chapters: Sequence[Chapter], offset: Fraction) -> str:
    titles = [f"{title or 'untitled'} at {_seconds(start - offset)}" for start, _, title in chapters]
    return ", ".join(titles) or "none"


def _seconds(time: Fraction) -> str:
    return f"{float(time):.3f} s"
