"""EXIF blocks, patched in place.

Libraries that rewrite EXIF invalidate maker notes, which hold offsets into the block. Here a block keeps its
bytes except for orientation, dimensions and thumbnail of a rotated or scaled photo.
"""

from __future__ import annotations

import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

PREFIX = b"Exif\0\0"
ORIENTATION, EXIF, GPS = 0x0112, 0x8769, 0x8825
_WIDTH, _HEIGHT = 0xA002, 0xA003
_DATE, _SUBSECOND = 0x9003, 0x9291
_EXPOSURE, _SHUTTER_SPEED = 0x829A, 0x9201
# Tags of a TIFF's first directory that describe the photo, not the layout of the file: description, make,
# model, orientation, resolution, software, date, artist, computer, copyright, and the two sub-directories.
IFD0_TAGS = (270, 271, 272, ORIENTATION, 282, 283, 296, 305, 306, 315, 316, 33432, EXIF, GPS)

# Errors of Pillow on malformed tags.
_PARSE_ERRORS = (
    *(SyntaxError, ValueError, TypeError, KeyError, IndexError, AttributeError),
    *(OSError, RuntimeError, ArithmeticError, struct.error),
)
_WARNINGS_LOCK = threading.RLock()  # the warnings filter is global to all threads


def normalize_orientation(exif: bytes, *, rotated_90: bool) -> bytes:
    """EXIF for a photo whose pixels were rotated upright.

    The orientation is set to 1, width and height are swapped for a rotation by 90 degrees, and the thumbnail,
    which shows the photo before the rotation, is unlinked. All offsets stay valid.

    Args:
        exif: A TIFF structure.
        rotated_90: The rotation was by 90 or 270 degrees.

    Returns:
        The patched block; `exif` itself if it is malformed.
    """
    patched = bytearray(exif)
    try:
        order = _byte_order(exif)
        for entry_offset in _entries(exif, order, _ifd0_offset(exif, order)):
            tag, _, _, value = struct.unpack_from(order + "HHII", exif, entry_offset)
            if tag == ORIENTATION:
                struct.pack_into(order + "H", patched, entry_offset + 8, 1)
            if tag == EXIF and rotated_90:
                _swap_size(patched, order, value)
        end = _ifd0_offset(exif, order)
        (count,) = struct.unpack_from(order + "H", exif, end)
        struct.pack_into(order + "I", patched, end + 2 + 12 * count, 0)
    except (struct.error, ValueError):
        return exif
    return bytes(patched)


def with_dimensions(exif: bytes | None, *, height: int, width: int) -> bytes | None:
    """EXIF with new values in its dimension tags, if it has them. All offsets stay valid."""
    patched = bytearray(exif or b"")
    try:
        order = _byte_order(patched)
        for entry_offset in _entries(patched, order, _ifd0_offset(patched, order)):
            tag, _, _, value = struct.unpack_from(order + "HHII", patched, entry_offset)
            if tag == EXIF:
                _write_size(patched, order, value, {_WIDTH: width, _HEIGHT: height})
    except (struct.error, ValueError):
        return exif
    return bytes(patched)


def parse_tags(exif: bytes | None) -> Image.Exif:
    """The valid tags of an EXIF block; empty for None or a malformed block."""
    tags = Image.Exif()
    with suppress_warnings():
        try:
            tags.load(exif or b"")
        except _PARSE_ERRORS:
            return Image.Exif()
        return _valid_tags(tags)


def serialize_tags(tags: Image.Exif) -> bytes | None:
    """An EXIF block from the directories of a TIFF, without tags of the file's layout; None without tags."""
    with suppress_warnings():
        valid = _valid_tags(tags)
        for tag in set(valid) - set(IFD0_TAGS):
            del valid[tag]
        if not valid and not any(valid.get_ifd(ifd) for ifd in (EXIF, GPS)):
            return None
        return bytes(valid.tobytes()).removeprefix(PREFIX)


def _valid_tags(tags: Image.Exif) -> Image.Exif:
    """The tags whose values can be read and written."""
    valid = Image.Exif()
    for tag in set(tags) - {EXIF, GPS}:
        with suppress(*_PARSE_ERRORS):
            if _is_serializable(tag, tags[tag], group=None):
                valid[tag] = tags[tag]
    for ifd in (EXIF, GPS):
        with suppress(*_PARSE_ERRORS):
            items = tags.get_ifd(ifd).items()
            valid.get_ifd(ifd).update(
                {tag: value for tag, value in items if _is_serializable(tag, value, group=ifd)}
            )
    return valid


def _is_serializable(tag: int, value: Any, *, group: int | None) -> bool:
    directory = ImageFileDirectory_v2(group=group)
    try:
        directory[tag] = value
        directory.tobytes()
    except _PARSE_ERRORS:
        return False
    return True


@contextmanager
def suppress_warnings() -> Iterator[None]:
    """Suppress Pillow's warnings about unusual tags, on which the user cannot act."""
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def orientation(tags: Image.Exif) -> int:
    """The EXIF orientation, 1 to 8; 1 if it is missing or invalid."""
    value = tags.get(ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def capture_time(exif: bytes | None) -> Fraction | None:
    """Capture time in seconds since 1970 on the camera's clock; None if the EXIF has none."""
    tags = parse_tags(exif).get_ifd(EXIF)
    try:
        day = datetime.strptime(str(tags[_DATE]).strip("\0 "), "%Y:%m:%d %H:%M:%S")
        fraction_digits = str(tags.get(_SUBSECOND, "")).strip("\0 ") or "0"
        seconds = (day - datetime(1970, 1, 1)) // timedelta(seconds=1)
        return seconds + Fraction(int(fraction_digits), 10 ** len(fraction_digits))
    except (KeyError, ValueError):
        return None


def exposure_time(exif: bytes | None) -> float | None:
    """Exposure time in seconds; None if the EXIF has none."""
    tags = parse_tags(exif).get_ifd(EXIF)
    try:
        # Some cameras write only the APEX value.
        seconds = float(tags[_EXPOSURE] if _EXPOSURE in tags else 2.0 ** -float(tags[_SHUTTER_SPEED]))
    except (KeyError, ValueError, TypeError, ZeroDivisionError, OverflowError):
        return None
    return seconds if 0 < seconds < 1e6 else None


def _byte_order(exif: bytes | bytearray) -> str:
    if exif[:2] not in (b"II", b"MM"):
        raise ValueError("no EXIF")
    return "<" if exif[:2] == b"II" else ">"


def _ifd0_offset(exif: bytes | bytearray, order: str) -> int:
    (offset,) = struct.unpack_from(order + "I", exif, 4)
    return int(offset)


def _entries(exif: bytes | bytearray, order: str, directory: int) -> Iterator[int]:
    """The offsets of the entries of a directory."""
    (count,) = struct.unpack_from(order + "H", exif, directory)
    yield from range(directory + 2, directory + 2 + 12 * count, 12)


def _write_size(exif: bytearray, order: str, directory: int, sizes: dict[int, int]) -> None:
    """Write the values of `sizes` into its existing tags, as LONG: wide enough for any photo."""
    for entry_offset in _entries(exif, order, directory):
        (tag,) = struct.unpack_from(order + "H", exif, entry_offset)
        if tag in sizes:
            struct.pack_into(order + "HII", exif, entry_offset + 2, 4, 1, sizes[tag])


def _swap_size(exif: bytearray, order: str, directory: int) -> None:
    entry_offsets = {
        struct.unpack_from(order + "H", exif, entry)[0]: entry for entry in _entries(exif, order, directory)
    }
    if _WIDTH in entry_offsets and _HEIGHT in entry_offsets:
        # Swap type, count and value: the tags stay in ascending order.
        a, b = entry_offsets[_WIDTH] + 2, entry_offsets[_HEIGHT] + 2
        exif[a : a + 10], exif[b : b + 10] = exif[b : b + 10], exif[a : a + 10]
