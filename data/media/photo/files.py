"""Reading and writing of photos with their metadata."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from freezeframe.data.errors import UnreadableMedia, UnwritableOutput
from freezeframe.data.media.files.preflight import reject_pipe
from freezeframe.data.media.files.publish import Claim, claim
from freezeframe.data.types import Frame, Picture

from .decode import decode
from .encode import ENCODERS, encode
from .exif import capture_time, exposure_time
from .photo import PhotoPicture, to_photo


def read_photo(path: str | Path) -> PhotoPicture:
    """Read a photo in upright orientation: JPEG, PNG, TIFF, WebP, AVIF, BMP; HEIC and camera raw with extras.

    Samples keep their 8 or 16 bits (AVIF is read with 8). Gray becomes three equal channels. Only the first
    frame of an animation is read.

    Raises:
        UnreadableMedia: The file is missing, not a photo, damaged, or neither RGB nor gray.
        MissingExtra: HEIC without pillow-heif, camera raw without rawpy.
    """
    path = Path(path)
    if path.is_dir():
        raise UnreadableMedia(f"{path}: is a folder; name a photo")
    reject_pipe(path)
    return decode(path)


def write_photo(picture: Picture, path: str | Path, *, force: bool = False, quality: int = 95) -> None:
    """Write a picture atomically, in the format of the suffix.

    Depth, profile, EXIF and alpha are written if the format has them: PNG and TIFF have all, WebP and AVIF
    all with 8 bits, JPEG has no alpha. A picture that is not a photo is written in sRGB.

    Args:
        picture: The picture.
        path: .jpg, .png, .tif, .webp, .avif or .bmp.
        force: Replace an existing file.
        quality: 1 to 100; of JPEG (4:4:4), WebP and AVIF.

    Raises:
        UnwritableOutput: The file exists, cannot be written, or its format cannot hold the photo.
    """
    output_claim = claim_photo(Path(path), force=force)
    output_claim.write(encode_photo(to_photo(picture), output_claim.path, quality=quality))


def claim_photo(path: Path, *, inputs: Iterable[Path] = (), force: bool, trial: bool = True) -> Claim:
    """Check before any work that a photo can and may be written."""
    if path.suffix.lower() not in ENCODERS:
        raise UnwritableOutput(
            f"{path}: write one of {', '.join(ENCODERS)}; other photo formats can only be read"
        )
    return claim(path, inputs=inputs, force=force, trial=trial)


def encode_photo(picture: PhotoPicture, path: Path, *, quality: int = 95) -> bytes:
    """The bytes of a photo file, in the format of the suffix of `path`."""
    try:
        return encode(picture, path.suffix.lower(), quality=quality)
    except (OSError, ValueError) as error:
        raise UnwritableOutput(
            f"{path}: this format cannot hold the photo ({error}); write a .png"
        ) from error


def read_burst(paths: Sequence[str | Path]) -> list[Frame]:
    """Read two or more photos of equal size as frames.

    Times are capture times relative to the first photo if every EXIF has one and they increase; else the
    interval is one second.

    Raises:
        UnreadableMedia: There are fewer than two photos, one cannot be read, or the sizes differ.
    """
    if len(paths) < 2:
        subject = f"{paths[0]}: is a single photo" if paths else "no photo was given"
        raise UnreadableMedia(f"{subject}; a burst needs two or more of the same scene")
    photos = [read_photo(path) for path in paths]
    for path, photo in zip(paths, photos, strict=True):
        if photo.size != photos[0].size:
            raise UnreadableMedia(
                f"{path}: is {_format_size(photo.size)}, but {paths[0]} is {_format_size(photos[0].size)};"
                " a burst needs photos of equal size: leave it out, or crop all to the same size"
            )
    times = _times(photos)
    rows = enumerate(zip(times, photos, strict=True))
    return [Frame(index=index, time=time, picture=photo) for index, (time, photo) in rows]


def exposure_seconds(picture: Picture) -> float | None:
    """Exposure time of a photo in seconds, from its EXIF; None if unknown."""
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
