"""Verification of a finished folder of images."""

from __future__ import annotations

import filecmp
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from freezeframe.data.color import HLG, PQ, UNSPECIFIED
from freezeframe.data.media.photo.decode import decode, display_size
from freezeframe.data.media.verification import Check, VerificationReport, compare, remark
from freezeframe.data.media.video_in.source import VideoSource
from freezeframe.data.types import Source

_SRGB_PRIMARIES = (1, UNSPECIFIED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedFolder:
    """Expected content of a finished folder."""

    source: Source
    count: int  # images
    copied: Mapping[str, Path]  # source of each image that was copied, by name
    orientation: int  # EXIF orientation that was applied to the frames of a video


def verify_folder(folder: Path, images: Sequence[Path], expected: ExpectedFolder) -> VerificationReport:
    """Check the header of every image, the bytes of every copy, and decode one image."""
    return VerificationReport(tuple(_checks(folder, images, expected)))


def _checks(folder: Path, images: Sequence[Path], expected: ExpectedFolder) -> Iterator[Check]:
    source = expected.source
    is_video = isinstance(source, VideoSource)
    expected_count = expected.count if is_video or source.count is None else source.count
    yield compare("images", expected_count, sum(1 for _ in folder.iterdir()))
    first = decode(images[0])
    sizes = {display_size(image) for image in images}
    yield compare(
        "size", "{1}x{0}".format(*first.size), " ".join(sorted("{1}x{0}".format(*s) for s in sizes if s))
    )
    identical_count = sum(
        filecmp.cmp(folder / name, original, shallow=False) for name, original in expected.copied.items()
    )
    yield compare(
        "unchanged images", f"{len(expected.copied)} byte for byte", f"{identical_count} byte for byte"
    )
    yield remark("bit depth", str(first.depth))
    if isinstance(source, VideoSource):
        yield from _unsupported_properties(source, expected.orientation)


def _unsupported_properties(source: VideoSource, orientation: int) -> Iterator[Check]:
    """Properties of a video that image files cannot hold."""
    info = source.info
    yield remark("times", f"not stored in image files; {float(source.rate):.3f} frames per second on average")
    yield remark("sound and other streams", "not stored in image files")
    if info.display_matrix:
        yield remark(
            "rotation and flip",
            "applied to the pixels" if orientation > 1 else "none, or not by right angles",
        )
    if info.tags[1] not in _SRGB_PRIMARIES or info.tags[2] in (PQ, HLG):
        detail = f"primaries {info.tags[1]}, transfer {info.tags[2]}; written with the sRGB function"
        yield remark("colour tags", detail)
    if info.sample_aspect not in (None, 1):
        yield remark("sample aspect", f"not stored in image files; was {info.sample_aspect}")
