"""Whether all bytes are there that a file's own framing promises."""

from __future__ import annotations

from pathlib import Path

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
        return 8 + int.from_bytes(head[4:8], "little") > size
    return _segment_end(head) > size


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
