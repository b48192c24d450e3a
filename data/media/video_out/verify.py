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
from .stream_digest import Chapter, Ledger, Span, chapters_in, same_tag, tags_of

_FULL = 2  # AVCOL_RANGE_JPEG

Timing = tuple[Sequence[int], Fraction]  # ticks, seconds per tick


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One promise and what the finished file says to it."""

    name: str
    promised: str
    found: str
    passed: bool


@dataclass(frozen=True, slots=True)
class PlumbingSheet:
    """All promises about one file."""

    lines: tuple[Line, ...]

    @property
    def passed(self) -> bool:
        return all(line.passed for line in self.lines)

    def text(self) -> str:
        """One line per promise, PASS or FAIL first."""
        width = max(len(line.name) for line in self.lines)
        return "\n".join(_row(line, width) for line in self.lines)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        lines = [{name: getattr(line, name) for name in Line.__slots__} for line in self.lines]
        return {"passed": self.passed, "lines": lines}


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What a finished file must hold."""

    video: str  # how its pictures came about, in words
    own: Ledger | None  # of the video, where it was copied
    codec: str
    size: tuple[int, int]  # height, width
    times: Sequence[int]  # ticks, increasing
    tick: Fraction  # seconds
    step: Fraction  # seconds from frame to frame, on average
    spans: Sequence[Span]  # of what is seen and heard, and with data and words
    depth: int  # bits per sample
    tags: tuple[int, int, int, int]  # range, primaries, transfer, matrix
    sample_aspect: Fraction
    display_matrix: tuple[int, ...] | None
    mastering: bytes | None
    light_level: bytes | None
    copied: Sequence[Ledger]
    metadata: Mapping[str, str]
    chapters: Sequence[Chapter]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a finished file holds."""

    info: VideoInfo
    ledgers: Sequence[Ledger]  # of its streams, the video first
    duration: Fraction | None  # seconds, as the file says
    metadata: Mapping[str, str]
    chapters: Sequence[Chapter]

    @property
    def grid(self) -> Fraction:
        """Seconds between the times that the container can write; 0 where it is as fine as any stream."""
        return Fraction(1, 1000) if "matroska" in self.info.container else Fraction(0)


def check(path: Path, promise: Promise) -> PlumbingSheet:
    """Open a finished file and compare it with what was promised."""
    finding = _look_into(path)
    return PlumbingSheet(tuple(_lines(promise, finding)))


def _look_into(path: Path) -> Finding:
    with open_container(path) as container:
        stream = video_stream(container, path)
        first = next(Decoding.of(path, container, stream, skip_damaged=False).pictures(), None)
        if first is None:
            raise UnreadableMedia(f"{path}: the new file has no frame in it")
        info = describe(path, container, stream, first[1])
        duration = container.duration
        metadata, chapters = tags_of(container), chapters_in(container.chapters())
    with open_container(path) as container:
        ledgers = {stream.index: Ledger.of(stream) for stream in container.streams}
        for packet in container.demux():
            if packet.size or packet.pts is not None:  # the empty ones at the end only flush decoders
                ledgers[packet.stream_index].enter(packet)
    return Finding(
        info=info,
        ledgers=[ledgers.pop(info.stream), *ledgers.values()],
        duration=Fraction(duration, av.time_base) if duration else None,
        metadata=metadata,
        chapters=chapters,
    )


def _lines(promise: Promise, finding: Finding) -> Iterator[Line]:
    info, video = finding.info, finding.ledgers[0]
    offset = _offset(promise, finding)
    yield _line("video", promise.codec, info.codec, said=promise.video)
    if promise.own:
        yield _line("video bytes", promise.own.summary, video.summary)
    yield _line("frames", len(promise.times), len(video.times))
    wanted, got = (promise.times, promise.tick), (video.times, video.tick)
    yield _times("timestamps", wanted, got, finding, offset)
    yield from _copies(promise, finding, offset)
    yield _line("size", "{1}x{0}".format(*promise.size), f"{info.width}x{info.height}")
    yield _line("bit depth", promise.depth, info.depth)
    yield _line("colour tags", _tags(promise.tags), _tags(info.meaning))
    yield _line("sample aspect", promise.sample_aspect, info.sample_aspect or Fraction(1))
    turns = (_matrix(side.display_matrix, moved=not finding.grid) for side in (promise, info))
    yield _line("rotation and flip", *turns)
    if promise.mastering or promise.light_level:
        lights = (_light(side.mastering, side.light_level) for side in (promise, info))
        yield _line("HDR mastering", *lights)
    yield _duration(promise, finding, offset)
    yield _line("chapters", _chapters(promise.chapters, Fraction(0)), _chapters(finding.chapters, offset))
    yield _metadata(promise.metadata, finding.metadata)


def _copies(promise: Promise, finding: Finding, offset: Fraction) -> Iterator[Line]:
    """Each copied stream against its like in the file: bytes, times, language."""
    found = list(finding.ledgers[1:])
    for number, wanted in enumerate(promise.copied, start=1):
        alike = [ledger for ledger in found if ledger.kind == wanted.kind]
        same = [ledger for ledger in alike if ledger.codec == wanted.codec]
        got = next(iter(same or alike), None)
        name = f"{wanted.kind} {number}"
        if got is None:
            yield Line(name=name, promised=wanted.codec, found="is missing", passed=False)
            continue
        found.remove(got)
        yield _line(
            f"{name} bytes",
            wanted.summary,
            got.summary,
            said=f"{wanted.codec}, {wanted.size} bytes identical",
        )
        # PCM is cut into packets as each reader likes; its bytes and its start are what can be compared.
        few = 1 if wanted.codec.startswith("pcm_") else None
        ours, theirs = ((sorted(book.times)[:few], book.tick) for book in (wanted, got))
        if not wanted.timeless and not got.timeless:
            yield _times(f"{name} times", ours, theirs, finding, offset)
        yield _line(f"{name} language", wanted.label, got.label)


def _times(name: str, wanted: Timing, got: Timing, finding: Finding, offset: Fraction) -> Line:
    """Two lists of times: equal, or as near as the found list's own ticks allow."""
    (times, tick), (found, found_tick) = wanted, got
    promised = f"all {len(times)} exact"
    if len(times) != len(found):
        return Line(name=name, promised=promised, found=f"{len(found)} times", passed=False)
    unit = lcm(tick.denominator, found_tick.denominator, offset.denominator)
    ours, theirs, late = (int(part * unit) for part in (tick, found_tick, offset))
    pairs = zip(sorted(times), sorted(found), strict=True)
    worst = max((abs(a * ours + late - b * theirs) for a, b in pairs), default=0)
    said = promised if worst == 0 else f"all {len(times)} within {float(worst / unit) * 1e3:.3g} ms"
    if finding.grid and worst:
        said += " (the container's grid is 1 ms)"
    if offset:
        said += f", all streams {float(offset) * 1e3:+.0f} ms"
    fine = found_tick <= Fraction(1, 1000) and 2 * worst <= theirs
    return Line(name=name, promised=promised, found=said, passed=worst == 0 or fine)


def _offset(promise: Promise, finding: Finding) -> Fraction:
    """How much later Matroska starts all streams together, as it cannot write times before zero."""
    video = finding.ledgers[0]
    if not finding.grid or not video.times:
        return Fraction(0)
    late = min(video.times) * video.tick - promise.times[0] * promise.tick
    return late if late > finding.grid else Fraction(0)


def _duration(promise: Promise, finding: Finding, offset: Fraction) -> Line:
    """What the file says of its length: counted from zero or the first frame, with or without data."""
    wanted = promise.spans[0][1] - promise.spans[0][0]
    lengths = [length for start, end in promise.spans for length in (end - start, end + offset)]
    got, near = finding.duration, promise.step + Fraction(1, 20)
    fits = got is not None and any(abs(got - length) <= near for length in lengths)
    found = "not stated" if got is None else _seconds(wanted if fits else got)
    return Line(name="duration", promised=_seconds(wanted), found=found, passed=fits)


def _metadata(wanted: Mapping[str, str], got: Mapping[str, str]) -> Line:
    lost = [key for key, value in wanted.items() if not same_tag(key, value, got)]
    found = "all there" if not lost else f"lost or changed: {', '.join(lost)}"
    return Line(name="tags", promised=f"{len(wanted)} tags", found=f"{len(wanted)}: {found}", passed=not lost)


def _line(name: str, promised: object, found: object, *, said: str | None = None) -> Line:
    passed = promised == found
    return Line(
        name=name, promised=str(promised), found=said if said and passed else str(found), passed=passed
    )


def _row(line: Line, width: int) -> str:
    verdict = "PASS" if line.passed else "FAIL"
    said = line.found if line.passed else f"{line.found} (promised: {line.promised})"
    return f"{verdict}  {line.name:<{width}}  {said}"


def _tags(tags: tuple[int, int, int, int]) -> str:
    span = "full" if tags[0] == _FULL else "limited"  # untagged means limited
    return f"{span} range, primaries {tags[1]}, transfer {tags[2]}, matrix {tags[3]}"


def _matrix(matrix: tuple[int, ...] | None, *, moved: bool) -> str:
    """Matroska holds no shift of the picture, which players ignore."""
    if matrix and not moved:
        matrix = (*matrix[:6], 0, 0, *matrix[8:])
    upright = (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    return "none" if matrix in (None, upright) else " ".join(str(v) for v in matrix or ())


def _light(mastering: bytes | None, light: bytes | None) -> str:
    """SMPTE ST 2086 and CTA-861.3 in words, to the digits that every codec keeps."""
    words = "no mastering display"
    if mastering:
        numbers = mastering_values(mastering)
        places = " ".join(f"{float(v):.3f}" for v in numbers[:8])
        words = f"primaries and white {places}, {float(numbers[9]):.0f} cd/m2"
    peak, average = struct.unpack_from("<2I", light) if light else (0, 0)
    return f"{words}, content {peak}/{average} cd/m2"


def _chapters(chapters: Sequence[Chapter], offset: Fraction) -> str:
    named = [f"{title or 'untitled'} at {_seconds(start - offset)}" for start, _, title in chapters]
    return ", ".join(named) or "none"


def _seconds(time: Fraction) -> str:
    return f"{float(time):.3f} s"
