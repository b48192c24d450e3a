"""Binary .ply files (Turk 1994): a text header, then tables of numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from freezeframe.data.errors import UnreadableMedia

START, STOP = b"ply", b"end_header"
LONGEST = 1 << 16  # bytes of a header
NUMBERS: Mapping[str, str] = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "float32": "f4", "float64": "f8",
}  # fmt: skip


def columns(name: str, count: int) -> tuple[str, ...]:
    """name_0, name_1 ..."""
    return tuple(f"{name}_{k}" for k in range(count))


def write_elements(name: str, table: Any) -> bytes:
    """A file with one structured array of 32-bit floats."""
    lines = ["ply", "format binary_little_endian 1.0", f"element {name} {len(table)}"]
    lines += [f"property float {column}" for column in table.dtype.names]
    return ("\n".join(lines) + "\nend_header\n").encode() + bytes(table.tobytes())


def read_elements(path: Path) -> dict[str, Any]:
    """Every element of a file as a structured array.

    Raises:
        UnreadableMedia: It is no binary little-endian .ply without lists, or is cut short.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableMedia(f"{path}: {error.strerror}; name a .ply file") from error
    head, _, body = data[:LONGEST].partition(STOP)
    if not data.startswith(START) or len(head) == len(data[:LONGEST]):
        raise UnreadableMedia(f"{path}: is no .ply file; name one")
    lines = head.decode("latin-1").split("\n")
    begun = len(head) + len(STOP) + (2 if body.startswith(b"\r") else 1)
    found = {}
    for name, count, kind in _layouts(lines, path):
        if begun + count * kind.itemsize > len(data):
            raise UnreadableMedia(f"{path}: is cut short within its {name} table; copy it anew")
        found[name] = np.frombuffer(data, kind, count, begun)
        begun += count * kind.itemsize
    return found


def _layouts(lines: list[str], path: Path) -> Iterator[tuple[str, int, np.dtype[Any]]]:
    """Name, length and type of the rows of each table that a header announces."""
    elements: list[tuple[str, int, list[tuple[str, str]]]] = []
    for words in (line.split() for line in lines):
        match words:
            case ["format", form, *_] if form != "binary_little_endian":
                raise UnreadableMedia(f"{path}: is {form}; save it as a binary little-endian .ply")
            case ["element", name, count] if count.isdigit():
                elements.append((name, int(count), []))
            case ["property", number, name] if elements and number in NUMBERS:
                elements[-1][2].append((name, "<" + NUMBERS[number]))
            case ["property", *_]:
                raise UnreadableMedia(f"{path}: has a property {' '.join(words[1:])}, which no scene of"
                                      " Gaussians has; name a splatted scene")  # fmt: skip
    for name, length, fields in elements:
        yield name, length, np.dtype(fields)
