"""Photos in and out, with everything that their files say about them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from freezeframe.data.errors import UnreadableMedia, UnwritableOutput
from freezeframe.data.media.files.inputs import reject_pipe
from freezeframe.data.media.files.publish import Claim, claim
from freezeframe.data.media.files.suffixes import PHOTO_SUFFIXES
from freezeframe.data.types import Frame, Picture

from .decode import decode
from .encode import ENCODERS, encode
from .exif import capture_time, exposure_time
from .photo import PhotoPicture, to_photo

__all__ = [
    "PHOTO_SUFFIXES",
    "PhotoPicture",
    "claim_photo",
    "exposure_seconds",
    "read_burst",
    "read_photo",
    "write_photo",
]


def read_photo(path: str | Path) -> PhotoPicture:
    """A photo, upright: JPEG, PNG, TIFF, WebP, AVIF, BMP; HEIC and camera raw through extras.

    Samples keep their 8 or 16 bits (AVIF is read with 8). Grey becomes three equal channels. Of animations
    the first picture is read.

    Raises:
        UnreadableMedia: There is no such file, it is no photo, damaged, or neither RGB nor grey.
        MissingExtra: HEIC without pillow-heif, camera raw without rawpy.
    """
    path = Path(path)
    if path.is_dir():
        raise UnreadableMedia(f"{path}: is a folder; name a photo")
    reject_pipe(path)
    return decode(path)


def write_photo(picture: Picture, path: str | Path, *, force: bool = False, quality: int = 95) -> None:
    """Write a picture; the suffix decides the format, and the file appears only when it is complete.

    Depth, profile, EXIF and transparency are written where the format holds them: PNG and TIFF hold all,
    WebP and AVIF all in 8 bits, JPEG no transparency. A picture of another kind is written in sRGB.

    Args:
        picture: What to show.
        path: .jpg, .png, .tif, .webp, .avif or .bmp.
        force: Replace an existing file.
        quality: 1 to 100, of JPEG (colour at full resolution), WebP and AVIF.
    """
    output_claim = claim_photo(Path(path), force=force)
    output_claim.write(encode_photo(to_photo(picture), output_claim.path, quality=quality))


def claim_photo(path: Path, *, inputs: Iterable[Path] = (), force: bool, trial: bool = True) -> Claim:
    """Stop before any work where a photo cannot or must not be written."""
    if path.suffix.lower() not in ENCODERS:
        raise UnwritableOutput(
            f"{path}: write one of {', '.join(ENCODERS)}; other kinds of photo are only read"
        )
    return claim(path, inputs=inputs, force=force, trial=trial)


def encode_photo(picture: PhotoPicture, path: Path, *, quality: int = 95) -> bytes:
    """The file that shows `picture`, of the kind that the suffix of `path` names."""
    try:
        return encode(picture, path.suffix.lower(), quality=quality)
    except (OSError, ValueError) as error:
        raise UnwritableOutput(
            f"{path}: this format cannot hold the photo ({error}); write a .png"
        ) from error


def read_burst(paths: Sequence[str | Path]) -> list[Frame]:
    """At least two photos of one size as frames.

    Times are seconds since the first, by the clock of the camera where every photo tells a later one than the
    photo before; else the photos count as a second apart.
    """
    if len(paths) < 2:
        subject = f"{paths[0]}: is a single photo" if paths else "no photo was given"
        raise UnreadableMedia(f"{subject}; a burst needs two or more of the same scene")
    photos = [read_photo(path) for path in paths]
    for path, photo in zip(paths, photos, strict=True):
        if photo.size != photos[0].size:
            raise UnreadableMedia(
                f"{path}: is {_format_size(photo.size)}, but {paths[0]} is {_format_size(photos[0].size)};"
                " a burst needs photos of one size: leave it out, or cut all to the same size"
            )
    times = _times(photos)
    rows = enumerate(zip(times, photos, strict=True))
    return [Frame(index=index, time=time, picture=photo) for index, (time, photo) in rows]


def exposure_seconds(picture: Picture) -> float | None:
    """How long the shutter was open, in seconds, if the photo's EXIF tells."""
    return exposure_time(picture.exif) if isinstance(picture, PhotoPicture) else None


def _times(photos: Sequence[PhotoPicture]) -> list[Fraction]:
    capture_times = [capture_time(photo.exif) for photo in photos]
    known_times = [time for time in capture_times if time is not None]
    rising = all(a < b for a, b in pairwise(known_times))
    if len(known_times) < len(photos) or not rising:
        return [Fraction(index) for index in range(len(photos))]
    return [time - known_times[0] for time in known_times]


def _format_size(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"
