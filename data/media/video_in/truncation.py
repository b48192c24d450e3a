"""What a file's own framing says: whether all bytes are there, and whether they are open to all."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067
_HEAD = 4096  # bytes in which the framing stands


def cut_off(path: Path) -> bool:
    """Whether a Matroska or AVI file says that it is longer than it is.

    Recordings that were never closed do not say how long they are; MP4 says how many frames it has instead.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEAD)
        if head[:4] == b"RIFF":
            return _pictures_end(file) > size
    return _segment_end(head) > size


def encrypted(path: Path) -> bool:
    """Whether an MP4 says that its samples are encrypted (ISO/IEC 14496-12, 8.12)."""
    with path.open("rb") as file:
        at = 0
        while len(head := _at(file, at, 16)) >= 8:
            length = int.from_bytes(head[:4], "big")
            length = int.from_bytes(head[8:], "big") if length == 1 else length
            if head[4:8] == b"moov":
                return b"encv" in _at(file, at, length)
            if length < 8:
                return False
            at += length
    return False


def _pictures_end(file: BinaryIO) -> int:
    """Where an AVI's list of frames ends by its own word: an index after it can be lost without harm."""
    at = 12
    while len(chunk := _at(file, at, 12)) == 12:
        end = at + 8 + int.from_bytes(chunk[4:8], "little")
        if chunk[:4] == b"LIST" and chunk[8:] == b"movi":
            return end
        at = end + end % 2
    return at


def _at(file: BinaryIO, place: int, length: int) -> bytes:
    file.seek(place)
    return file.read(length)


def _segment_end(head: bytes) -> int:
    """Where the Matroska segment ends by its own word; 0 where it does not say (RFC 8794, 4 to 6)."""
    at = 0
    for wanted in (_EBML, _SEGMENT):
        name, at = _number(head, at, keep_marker=True)
        length, at = _number(head, at)
        if name != wanted or length is None:
            return 0
        at += length
    return at


def _number(head: bytes, at: int, *, keep_marker: bool = False) -> tuple[int | None, int]:
    """A number of variable length and where the next thing begins; None if all its bits are set: unknown."""
    if at >= len(head) or head[at] == 0:
        return None, at
    length = 9 - head[at].bit_length()
    value = int.from_bytes(head[at : at + length], "big")
    bits = 7 * length
    if keep_marker:
        return value, at + length
    value -= 1 << bits
    return (None if value == (1 << bits) - 1 else value), at + length
