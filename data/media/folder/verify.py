"""The plumbing sheet of a folder of images: what was promised, and what lies there."""

from __future__ import annotations

import filecmp
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from freezeframe.data.color import HLG, PQ, UNSPECIFIED
from freezeframe.data.media.photo.decode import decode, upright_size
from freezeframe.data.media.video_in.source import VideoSource
from freezeframe.data.media.video_out.verify import Line, PlumbingSheet
from freezeframe.data.types import Source

_SRGB_PRIMARIES = (1, UNSPECIFIED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What a finished folder must hold."""

    source: Source
    count: int
    copied: Mapping[str, Path]  # images that are bytes of the source, by name
    turn: int  # the EXIF orientation that was applied to a video's frames


def sheet_of(folder: Path, images: Sequence[Path], promise: Promise) -> PlumbingSheet:
    """Look at every image's header, at the bytes of every copy, and at one image whole."""
    return PlumbingSheet(tuple(_lines(folder, images, promise)))


def _lines(folder: Path, images: Sequence[Path], promise: Promise) -> Iterator[Line]:
    source = promise.source
    video = isinstance(source, VideoSource)
    wanted = promise.count if video or source.count is None else source.count
    yield _line("images", wanted, sum(1 for _ in folder.iterdir()))
    first = decode(images[0])
    sizes = {upright_size(image) for image in images}
    yield _line(
        "size", "{1}x{0}".format(*first.size), " ".join(sorted("{1}x{0}".format(*s) for s in sizes if s))
    )
    same = sum(
        filecmp.cmp(folder / name, original, shallow=False) for name, original in promise.copied.items()
    )
    yield _line("untouched images", f"{len(promise.copied)} byte for byte", f"{same} byte for byte")
    yield _said("bit depth", str(first.depth))
    if isinstance(source, VideoSource):
        yield from _left_behind(source, promise.turn)


def _left_behind(source: VideoSource, turn: int) -> Iterator[Line]:
    """What a video has and images cannot hold: said, so that nobody misses it later."""
    info = source.info
    yield _said("times", f"not held by images; {float(source.rate):.3f} frames per second on average")
    yield _said("sound and other streams", "not held by images")
    if info.display_matrix:
        yield _said(
            "rotation and flip", "applied to the pixels" if turn > 1 else "none, or not by right angles"
        )
    if info.tags[1] not in _SRGB_PRIMARIES or info.tags[2] in (PQ, HLG):
        words = f"primaries {info.tags[1]}, transfer {info.tags[2]}; written with the curve of sRGB"
        yield _said("colour tags", words)
    if info.sample_aspect not in (None, 1):
        yield _said("sample aspect", f"not held by images; was {info.sample_aspect}")


def _line(name: str, promised: object, found: object) -> Line:
    return Line(name=name, promised=str(promised), found=str(found), passed=str(promised) == str(found))


def _said(name: str, words: str) -> Line:
    return Line(name=name, promised=words, found=words, passed=True)
