"""Container framing: detection of truncated and encrypted files."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067
_HEADER_BYTES = 4096  # bytes at the start of a file that contain the framing


def is_truncated(path: Path) -> bool:
    """Whether a Matroska or AVI file is shorter than its declared length.

    Recordings that were never closed declare no length; MP4 declares its number of frames instead.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
        if head[:4] == b"RIFF":
            return _movi_end(file) > size
    return _segment_end(head) > size


def is_encrypted(path: Path) -> bool:
    """Whether an MP4 declares encrypted samples (ISO/IEC 14496-12, 8.12)."""
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
    """The declared end of the frame list of an AVI; the index after it is not needed."""
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
    """The declared end of the Matroska segment; 0 if none is declared (RFC 8794, 4 to 6)."""
    offset = 0
    for element_id in (_EBML, _SEGMENT):
        name, offset = _read_vint(head, offset, keep_length_marker=True)
        length, offset = _read_vint(head, offset)
        if name != element_id or length is None:
            return 0
        offset += length
    return offset


def _read_vint(head: bytes, offset: int, *, keep_length_marker: bool = False) -> tuple[int | None, int]:
    """A variable-length integer and the offset after it; None (unknown) if all its bits are set."""
    if offset >= len(head) or head[offset] == 0:
        return None, offset
    length = 9 - head[offset].bit_length()
    value = int.from_bytes(head[offset : offset + length], "big")
    bits = 7 * length
    if keep_length_marker:
        return value, offset + length
    value -= 1 << bits
    return (None if value == (1 << bits) - 1 else value), offset + length
