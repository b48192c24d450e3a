"""Verification of a finished video file: it is read back and compared with its expected properties."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from pathlib import Path

import av

from freezeframe.data.color import FULL
from freezeframe.data.errors import UnreadableMedia
from freezeframe.data.media.verification import Check, VerificationReport, compare
from freezeframe.data.media.video_in.decoder import Decoder
from freezeframe.data.media.video_in.stream_info import VideoInfo, describe, open_container, video_stream

from .encoder_choice import mastering_values
from .stream_digest import Chapter, Span, StreamRecord, read_chapters, read_tags, same_tag

Timing = tuple[Sequence[int], Fraction]  # ticks, seconds per tick


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedOutput:
    """Expected properties of a finished file."""

    video: str  # how the frames were produced, as text for the report
    video_record: StreamRecord | None  # of the video stream, if it was copied
    codec: str
    size: tuple[int, int]  # height, width
    times: Sequence[int]  # ticks, increasing
    time_base: Fraction  # seconds
    frame_interval: Fraction  # seconds, average
    spans: Sequence[Span]  # of audio and video; of all streams
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
    """Actual properties of a finished file."""

    info: VideoInfo
    records: Sequence[StreamRecord]  # of all streams, the video first
    duration: Fraction | None  # seconds, as declared
    metadata: Mapping[str, str]
    chapters: Sequence[Chapter]

    @property
    def timestamp_resolution(self) -> Fraction:
        """Seconds between the timestamps that the container can hold; 0 if it keeps those of every stream."""
        return Fraction(1, 1000) if "matroska" in self.info.container else Fraction(0)


def verify(path: Path, expected: ExpectedOutput) -> VerificationReport:
    """Read a finished file and compare it with its expected properties.

    Raises:
        UnreadableMedia: The file cannot be read back.
    """
    probed = _probe(path)
    return VerificationReport(tuple(_checks(expected, probed)))


def _probe(path: Path) -> ProbedOutput:
    with open_container(path) as container:
        stream = video_stream(container, path)
        first = next(Decoder(path, container, stream, skip_damaged=False).pictures(), None)
        if first is None:
            raise UnreadableMedia(f"{path}: the new file contains no frame")
        info = describe(path, container, stream, first[1])
        duration = container.duration
        metadata, chapters = read_tags(container), read_chapters(container.chapters())
    with open_container(path) as container:
        records = {stream.index: StreamRecord.of(stream) for stream in container.streams}
        for packet in container.demux():
            if packet.size or packet.pts is not None:  # empty packets at the end only flush decoders
                records[packet.stream_index].add_packet(packet)
    return ProbedOutput(
        info=info,
        records=[records.pop(info.stream), *records.values()],
        duration=Fraction(duration, av.time_base) if duration else None,
        metadata=metadata,
        chapters=chapters,
    )


def _checks(expected: ExpectedOutput, probed: ProbedOutput) -> Iterator[Check]:
    offset = _start_offset(expected, probed)
    yield from _video(expected, probed, offset)
    yield from _copies(expected, probed, offset)
    yield from _picture(expected, probed)
    yield _duration(expected, probed, offset)
    yield compare("chapters", _chapters(expected.chapters, Fraction(0)), _chapters(probed.chapters, offset))
    yield _metadata(expected.metadata, probed.metadata)


def _video(expected: ExpectedOutput, probed: ProbedOutput, offset: Fraction) -> Iterator[Check]:
    """Codec, bytes if copied, and timestamps."""
    video = probed.records[0]
    yield compare("video", expected.codec, probed.info.codec, detail=expected.video)
    if expected.video_record:
        yield compare("video bytes", expected.video_record.summary, video.summary)
    yield compare("frames", len(expected.times), len(video.times))
    expected_timing = (expected.times, expected.time_base)
    yield _times("timestamps", expected_timing, (video.times, video.time_base), probed, offset)


def _picture(expected: ExpectedOutput, probed: ProbedOutput) -> Iterator[Check]:
    """Size, colour and orientation."""
    info = probed.info
    yield compare("size", "{1}x{0}".format(*expected.size), f"{info.width}x{info.height}")
    yield compare("bit depth", expected.depth, info.depth)
    yield compare("colour tags", _tags(expected.tags), _tags(info.effective_tags))
    yield compare("sample aspect", expected.sample_aspect, info.sample_aspect or Fraction(1))
    has_translation = not probed.timestamp_resolution
    matrices = (_matrix(side.display_matrix, has_translation=has_translation) for side in (expected, info))
    yield compare("rotation and flip", *matrices)
    if expected.mastering or expected.light_level:
        sides = (_format_light_metadata(side.mastering, side.light_level) for side in (expected, info))
        yield compare("HDR mastering", *sides)


def _copies(expected: ExpectedOutput, probed: ProbedOutput, offset: Fraction) -> Iterator[Check]:
    """Compare each copied stream with its counterpart in the file: bytes, timestamps, language."""
    actual = list(probed.records[1:])
    for number, source_record in enumerate(expected.copied_records, start=1):
        same_kind = [record for record in actual if record.kind == source_record.kind]
        same_codec = [record for record in same_kind if record.codec == source_record.codec]
        output_record = next(iter(same_codec or same_kind), None)
        name = f"{source_record.kind} {number}"
        if output_record is None:
            yield Check(name=name, expected=source_record.codec, actual="missing", passed=False)
            continue
        actual.remove(output_record)
        yield compare(
            f"{name} bytes",
            source_record.summary,
            output_record.summary,
            detail=f"{source_record.codec}, {source_record.size} bytes identical",
        )
        # Demuxers split PCM into packets differently: only its bytes and its start can be compared.
        max_times = 1 if source_record.codec.startswith("pcm_") else None
        expected_times, actual_times = (
            (sorted(side.times)[:max_times], side.time_base) for side in (source_record, output_record)
        )
        if not source_record.is_attached_pic and not output_record.is_attached_pic:
            yield _times(f"{name} times", expected_times, actual_times, probed, offset)
        yield compare(f"{name} language", source_record.label, output_record.label)


def _times(
    name: str, expected_timing: Timing, actual_timing: Timing, probed: ProbedOutput, offset: Fraction
) -> Check:
    """Compare two lists of timestamps, up to the rounding of the actual time base."""
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
        detail += " (the time base of the container is 1 ms)"
    if offset:
        detail += f", all streams {float(offset) * 1e3:+.0f} ms"
    is_within_tick = actual_time_base <= Fraction(1, 1000) and 2 * max_error <= actual_scale
    return Check(name=name, expected=expected, actual=detail, passed=max_error == 0 or is_within_tick)


def _start_offset(expected: ExpectedOutput, probed: ProbedOutput) -> Fraction:
    """The common delay of all streams in Matroska, which has no negative timestamps."""
    video = probed.records[0]
    if not probed.timestamp_resolution or not video.times:
        return Fraction(0)
    delay = min(video.times) * video.time_base - expected.times[0] * expected.time_base
    return delay if delay > probed.timestamp_resolution else Fraction(0)


def _duration(expected: ExpectedOutput, probed: ProbedOutput, offset: Fraction) -> Check:
    """Compare the declared duration; containers count from zero or the first frame, with or without data."""
    expected_duration = expected.spans[0][1] - expected.spans[0][0]
    lengths = [length for start, end in expected.spans for length in (end - start, end + offset)]
    actual_duration, tolerance = probed.duration, expected.frame_interval + Fraction(1, 20)
    fits = actual_duration is not None and any(
        abs(actual_duration - length) <= tolerance for length in lengths
    )
    actual = (
        "not stated" if actual_duration is None else _seconds(expected_duration if fits else actual_duration)
    )
    return Check(name="duration", expected=_seconds(expected_duration), actual=actual, passed=fits)


def _metadata(expected_tags: Mapping[str, str], actual_tags: Mapping[str, str]) -> Check:
    missing = [key for key, value in expected_tags.items() if not same_tag(key, value, actual_tags)]
    actual = "all present" if not missing else f"lost or changed: {', '.join(missing)}"
    return Check(
        name="tags",
        expected=f"{len(expected_tags)} tags",
        actual=f"{len(expected_tags)}: {actual}",
        passed=not missing,
    )


def _tags(tags: tuple[int, int, int, int]) -> str:
    range_name = "full" if tags[0] == FULL else "limited"  # untagged means limited
    return f"{range_name} range, primaries {tags[1]}, transfer {tags[2]}, matrix {tags[3]}"


def _matrix(matrix: tuple[int, ...] | None, *, has_translation: bool) -> str:
    """Matroska stores no translation, which players ignore."""
    if matrix and not has_translation:
        matrix = (*matrix[:6], 0, 0, *matrix[8:])
    identity = (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    return "none" if matrix in (None, identity) else " ".join(str(v) for v in matrix or ())


def _format_light_metadata(mastering: bytes | None, light_level: bytes | None) -> str:
    """SMPTE ST 2086 and CTA-861.3 as text, to the precision common to all codecs."""
    display = "no mastering display"
    if mastering:
        values = mastering_values(mastering)
        coordinates = " ".join(f"{float(v):.3f}" for v in values[:8])
        display = f"primaries and white {coordinates}, {float(values[9]):.0f} cd/m2"
    peak, average = struct.unpack_from("<2I", light_level) if light_level else (0, 0)
    return f"{display}, content {peak}/{average} cd/m2"


def _chapters(chapters: Sequence[Chapter], offset: Fraction) -> str:
    titles = [f"{title or 'untitled'} at {_seconds(start - offset)}" for start, _, title in chapters]
    return ", ".join(titles) or "none"


def _seconds(time: Fraction) -> str:
    return f"{float(time):.3f} s"
