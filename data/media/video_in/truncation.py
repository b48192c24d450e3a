"""What a file's own framing says: whether all bytes are there, and whether they are open to all."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067
_HEADER_BYTES = 4096  # bytes in which the framing stands


def is_truncated(path: Path) -> bool:
    """Whether a Matroska or AVI file says that it is longer than it is.

    Recordings that were never closed do not say how long they are; MP4 says how many frames it has instead.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
        if head[:4] == b"RIFF":
            return _movi_end(file) > size
    return _segment_end(head) > size


def is_encrypted(path: Path) -> bool:
    """Whether an MP4 says that its samples are encrypted (ISO/IEC 14496-12, 8.12)."""
    with path.open("rb") as file:
        offset = 0
        while len(head := _read_at(file, offset, 16)) >= 8:
            length = int.from_bytes(head[:4], "big")
            length = int.from_bytes(head[8:], "big") if length == 1 else length
            if head[4:8] == b"moov":
                return b"encv" in _read_at(file, offset, length)
            if length < 8:
                return False
            offset += length
    return False


def _movi_end(file: BinaryIO) -> int:
    """Where an AVI's list of frames ends by its own word: an index after it can be lost without harm."""
    offset = 12
    while len(chunk := _read_at(file, offset, 12)) == 12:
        end = offset + 8 + int.from_bytes(chunk[4:8], "little")
        if chunk[:4] == b"LIST" and chunk[8:] == b"movi":
            return end
        offset = end + end % 2
    return offset


def _read_at(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)


def _segment_end(head: bytes) -> int:
    """Where the Matroska segment ends by its own word; 0 where it does not say (RFC 8794, 4 to 6)."""
    offset = 0
    for element_id in (_EBML, _SEGMENT):
        name, offset = _read_vint(head, offset, keep_length_marker=True)
        length, offset = _read_vint(head, offset)
        if name != element_id or length is None:
            return 0
        offset += length
    return offset


def _read_vint(head: bytes, offset: int, *, keep_length_marker: bool = False) -> tuple[int | None, int]:
    """A number of variable length and where the next thing begins; None if all its bits are set: unknown."""
    if offset >= len(head) or head[offset] == 0:
        return None, offset
    length = 9 - head[offset].bit_length()
    value = int.from_bytes(head[offset : offset + length], "big")
    bits = 7 * length
    if keep_length_marker:
        return value, offset + length
    value -= 1 << bits
    return (None if value == (1 << bits) - 1 else value), offset + length
