"""Folders of numbered images as a `Source`."""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from freezeframe.data.errors import UnreadableMedia
from freezeframe.data.media.files.background import prefetch
from freezeframe.data.media.files.suffixes import PHOTO_SUFFIXES
from freezeframe.data.media.photo.decode import decode, display_size
from freezeframe.data.types import Frame

from .frame_numbers import frame_positions
from .sink import ImageFolderSink

__all__ = ["ImageFolderSink", "ImageFolderSource", "open_folder"]

PREFETCH_FRAMES = 4  # decoded images that wait for their turn


def open_folder(
    path: str | Path,
    *,
    rate: Fraction = Fraction(24),
    start: float | None = None,
    end: float | None = None,
) -> ImageFolderSource:
    """Open a folder of numbered images (1, 2, ... 10) as a clip of `rate` frames per second.

    Hidden files and what is no image are left out. All images must have one size. Where a few numbers are
    missing, there is a gap in time.

    Args:
        path: The folder.
        rate: Numbers per second.
        start: Seconds from the first image: images before it are left out.
        end: Seconds: images from it on are left out.
    """
    path = Path(path)
    if not path.is_dir():
        raise UnreadableMedia(f"{path}: is not a folder; name a folder of numbered images")
    if rate <= 0:
        raise ValueError(f"a rate must be positive, not {rate}")
    try:
        images = sorted((file for file in path.iterdir() if _is_image(file)), key=_by_number)
    except OSError as error:
        raise UnreadableMedia(f"{path}: may not be read; change its permissions") from error
    if not images:
        raise UnreadableMedia(
            f"{path}: holds no images; name a folder of numbered ones (0001.png, 0002.png ...)"
        )
    positions, gaps = frame_positions([image.name for image in images])
    selection = select_time_range(path, [position / rate for position in positions], start=start, end=end)
    images, positions = images[selection], positions[selection]
    _check_sizes(images)
    return ImageFolderSource(path, images, rate=rate, positions=positions, notes=[gaps] if gaps else [])


def select_time_range(
    path: Path, times: Sequence[Fraction], *, start: float | None, end: float | None
) -> slice:
    """Which of the rising `times`, in seconds, lie from `start` on and before `end`."""
    first = Fraction(str(start or 0))
    last = times[-1] + 1 if end is None else Fraction(str(end))
    if first >= last and end is not None:
        raise UnreadableMedia(f"{path}: the end, {end:g} s, must come after the start")
    selection = slice(bisect_left(times, first), bisect_left(times, last))
    if selection.start == selection.stop:
        raise UnreadableMedia(
            f"{path}: has no image in the part asked for, its last is at {float(times[-1]):g} s;"
            " look at --start, --end and the frame rate"
        )
    return selection


class ImageFolderSource:
    """The images of one folder in the order of their numbers."""

    def __init__(
        self,
        path: Path,
        images: Sequence[Path],
        *,
        rate: Fraction,
        positions: Sequence[int],
        notes: list[str],
    ) -> None:
        self.path = path
        self.images = tuple(images)
        self.positions = tuple(position - positions[0] for position in positions)  # of each image, in frames
        self.notes = notes  # words to the user
        self.damage: list[int] = []  # frames for which a neighbour was shown: an image is never replaced
        self._rate = rate

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def count(self) -> int:
        return len(self.images)

    @property
    def rate(self) -> Fraction:
        return self._rate

    def frames(self, *, first: int = 0) -> Iterator[Frame]:
        """All images from number `first` on, decoded ahead on a thread of their own."""
        return prefetch(self._read(range(first, self.count)), PREFETCH_FRAMES)

    def sample_clips(self, runs: int, length: int) -> Iterator[Sequence[Frame]]:
        """`runs` short runs of `length` consecutive images; fewer where they would overlap."""
        next_index = 0
        for clip_index in range(runs):
            middle = self.count * (2 * clip_index + 1) // (2 * runs)
            start = max(next_index, min(middle - length // 2, self.count - length))
            next_index = min(start + length, self.count)
            if start < next_index:
                yield tuple(self._read(range(start, next_index)))

    def fingerprint(self) -> str:
        """Tells the folder from another and from its own later state."""
        digest = hashlib.sha256(f"{self.path.resolve()} {self._rate}".encode())
        for image in self.images:
            status = image.stat()
            digest.update(f"{image.name} {status.st_size} {status.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def _read(self, numbers: range) -> Iterator[Frame]:
        size: tuple[int, int] | None = None
        for index in numbers:
            picture = decode(self.images[index])
            size = size or picture.size
            if picture.size != size:
                raise _size_mismatch(self.images[index], picture.size, size)
            yield Frame(index=index, time=self.positions[index] / self._rate, picture=picture)


def _check_sizes(images: Sequence[Path]) -> None:
    """Look at all headers now, rather than stop in the middle."""
    expected_size: tuple[int, int] | None = None
    for image in images:
        size = display_size(image)
        expected_size = expected_size or size
        if size is not None and size != expected_size and expected_size is not None:
            raise _size_mismatch(image, size, expected_size)


def _size_mismatch(image: Path, size: tuple[int, int], expected_size: tuple[int, int]) -> UnreadableMedia:
    return UnreadableMedia(
        f"{image}: is {size[1]}x{size[0]}, but the images before it are {expected_size[1]}x{expected_size[0]};"
        " leave it out, or give all the same size"
    )


def _is_image(file: Path) -> bool:
    return not file.name.startswith(".") and file.suffix.lower() in PHOTO_SUFFIXES and file.is_file()


def _by_number(file: Path) -> tuple[list[tuple[int, str]], str]:
    """Frame 2 comes before frame 10, whatever stands around the numbers."""
    parts = re.split(r"(\d+)", file.name.casefold())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], file.name
