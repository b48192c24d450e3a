"""The plumbing sheet of a folder of images: what was promised, and what lies there."""

from __future__ import annotations

import filecmp
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from freezeframe.data.color import HLG, PQ, UNSPECIFIED
from freezeframe.data.media.photo.decode import decode, display_size
from freezeframe.data.media.video_in.source import VideoSource
from freezeframe.data.media.video_out.verify import Check, VerificationReport
from freezeframe.data.types import Source

_SRGB_PRIMARIES = (1, UNSPECIFIED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedFolder:
    """What a finished folder must hold."""

    source: Source
    count: int
    copied: Mapping[str, Path]  # images that are bytes of the source, by name
    orientation: int  # the EXIF orientation that was applied to a video's frames


def verify_folder(
    folder: Path, images: Sequence[Path], expected_output: ExpectedFolder
) -> VerificationReport:
    """Look at every image's header, at the bytes of every copy, and at one image whole."""
    return VerificationReport(tuple(_checks(folder, images, expected_output)))


def _checks(folder: Path, images: Sequence[Path], expected_output: ExpectedFolder) -> Iterator[Check]:
    source = expected_output.source
    video = isinstance(source, VideoSource)
    expected_count = expected_output.count if video or source.count is None else source.count
    yield _check("images", expected_count, sum(1 for _ in folder.iterdir()))
    first = decode(images[0])
    sizes = {display_size(image) for image in images}
    yield _check(
        "size", "{1}x{0}".format(*first.size), " ".join(sorted("{1}x{0}".format(*s) for s in sizes if s))
    )
    identical_count = sum(
        filecmp.cmp(folder / name, original, shallow=False)
        for name, original in expected_output.copied.items()
    )
    yield _check(
        "untouched images", f"{len(expected_output.copied)} byte for byte", f"{identical_count} byte for byte"
    )
    yield _note("bit depth", str(first.depth))
    if isinstance(source, VideoSource):
        yield from _unsupported_properties(source, expected_output.orientation)


def _unsupported_properties(source: VideoSource, orientation: int) -> Iterator[Check]:
    """What a video has and images cannot hold: said, so that nobody misses it later."""
    info = source.info
    yield _note("times", f"not held by images; {float(source.rate):.3f} frames per second on average")
    yield _note("sound and other streams", "not held by images")
    if info.display_matrix:
        yield _note(
            "rotation and flip",
            "applied to the pixels" if orientation > 1 else "none, or not by right angles",
        )
    if info.tags[1] not in _SRGB_PRIMARIES or info.tags[2] in (PQ, HLG):
        detail = f"primaries {info.tags[1]}, transfer {info.tags[2]}; written with the curve of sRGB"
        yield _note("colour tags", detail)
    if info.sample_aspect not in (None, 1):
        yield _note("sample aspect", f"not held by images; was {info.sample_aspect}")


def _check(name: str, expected: object, actual: object) -> Check:
    return Check(name=name, expected=str(expected), actual=str(actual), passed=str(expected) == str(actual))


def _note(name: str, detail: str) -> Check:
    return Check(name=name, expected=detail, actual=detail, passed=True)
