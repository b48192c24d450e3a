"""A folder of numbered images as a `Source`."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from freezeframe.data.errors import UnreadableMedia
from freezeframe.data.media.files.background import prefetch
from freezeframe.data.media.files.fingerprint import fingerprint_names
from freezeframe.data.media.files.suffixes import PHOTO_SUFFIXES
from freezeframe.data.media.photo.decode import decode, display_size
from freezeframe.data.types import Frame

from .frame_numbers import frame_positions

PREFETCH_FRAMES = 4  # decoded images held in the queue


def open_folder(
    path: str | Path,
    *,
    rate: Fraction = Fraction(24),
    start: float | None = None,
    end: float | None = None,
) -> ImageFolderSource:
    """Open a folder of numbered images (1, 2, ... 10) as a clip of `rate` frames per second.

    Hidden files and files that are not images are skipped. All images must have the same size. Missing
    numbers are a gap in time.

    Args:
        path: The folder.
        rate: Numbers per second.
        start: Seconds from the first image: earlier images are skipped.
        end: Seconds from the first image: images from it on are skipped.

    Raises:
        UnreadableMedia: The folder is missing or has no image in the requested part, or the sizes differ.
    """
    path = Path(path)
    if not path.is_dir():
        raise UnreadableMedia(f"{path}: is not a folder; name a folder of numbered images")
    if rate <= 0:
        raise ValueError(f"a rate must be positive, not {rate}")
    try:
        images = sorted((file for file in path.iterdir() if _is_image(file)), key=_by_number)
    except OSError as error:
        raise UnreadableMedia(f"{path}: no permission to read it; change its permissions") from error
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
    """The slice of the increasing `times`, in seconds, from `start` on and before `end`."""
    first = Fraction(str(start or 0))
    last = times[-1] + 1 if end is None else Fraction(str(end))
    if first >= last and end is not None:
        raise UnreadableMedia(f"{path}: the end, {end:g} s, must come after the start")
    selection = slice(bisect_left(times, first), bisect_left(times, last))
    if selection.start == selection.stop:
        raise UnreadableMedia(
            f"{path}: has no image in the requested part, the last is at {float(times[-1]):g} s;"
            " check --start, --end and the frame rate"
        )
    return selection


class ImageFolderSource:
    """The images of one folder, sorted by number."""

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
        self.positions = tuple(position - positions[0] for position in positions)  # frame index of each image
        self.notes = notes  # messages to the user
        self.damage: list[int] = []  # concealed frames: a damaged image raises instead
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
        """All images from index `first` on, decoded ahead on another thread."""
        return prefetch(self._read(range(first, self.count)), PREFETCH_FRAMES)

    def sample_clips(self, runs: int, length: int) -> Iterator[Sequence[Frame]]:
        """`runs` clips of `length` consecutive images; fewer if they would overlap."""
        next_index = 0
        for clip_index in range(runs):
            middle = self.count * (2 * clip_index + 1) // (2 * runs)
            start = max(next_index, min(middle - length // 2, self.count - length))
            next_index = min(start + length, self.count)
            if start < next_index:
                yield tuple(self._read(range(start, next_index)))

    def fingerprint(self) -> str:
        """A hash of path, frame rate, and names, sizes and modification times of the images."""
        return fingerprint_names(self.images, prefix=f"{self.path.resolve()} {self._rate}")

    def _read(self, numbers: range) -> Iterator[Frame]:
        size: tuple[int, int] | None = None
        for index in numbers:
            picture = decode(self.images[index])
            size = size or picture.size
            if picture.size != size:
                raise _size_mismatch(self.images[index], picture.size, size)
            yield Frame(index=index, time=self.positions[index] / self._rate, picture=picture)


def _check_sizes(images: Sequence[Path]) -> None:
    """Raise before any work if the sizes in the headers differ."""
    expected_size: tuple[int, int] | None = None
    for image in images:
        size = display_size(image)
        expected_size = expected_size or size
        if size is not None and size != expected_size and expected_size is not None:
            raise _size_mismatch(image, size, expected_size)


def _size_mismatch(image: Path, size: tuple[int, int], expected_size: tuple[int, int]) -> UnreadableMedia:
    return UnreadableMedia(
        f"{image}: is {size[1]}x{size[0]}, but the images before it are"
        f" {expected_size[1]}x{expected_size[0]}; leave it out, or give all the same size"
    )


def _is_image(file: Path) -> bool:
    return not file.name.startswith(".") and file.suffix.lower() in PHOTO_SUFFIXES and file.is_file()


def _by_number(file: Path) -> tuple[list[tuple[int, str]], str]:
    """Natural sort key: frame 2 comes before frame 10."""
    parts = re.split(r"(\d+)", file.name.casefold())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], file.name
