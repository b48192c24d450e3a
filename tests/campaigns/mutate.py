"""Random corruptions of a file; the same seed gives the same corruption."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from random import Random

Mutation = Callable[[bytes, Random], bytes]

HEAD = 4096  # bytes in which most headers lie
NUMBERS = (0, 1, 2, 255, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
FIELDS = (b"stsd", b"stts", b"stsz", b"stco", b"stsc", b"ctts", b"elst", b"mdhd", b"mvhd", b"tkhd", b"trun")
BOX = re.compile(
    rb"(?s)(?=(.{4})(ftyp|moov|trak|mdia|minf|stbl|edts|udta|moof|traf|mdat|tkhd|mdhd|hdlr|elst))"
)


def flip(content: bytes, random: Random) -> bytes:
    at, bit = _offset(content, random), 1 << random.randrange(8)
    return content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :]


def flip_many(content: bytes, random: Random) -> bytes:
    """Randomise one byte in two hundred, like a failing memory card."""
    mutated = bytearray(content)
    for _ in range(1 + len(content) // 200):
        mutated[_offset(content, random)] = random.randrange(256)
    return bytes(mutated)


def truncate(content: bytes, random: Random) -> bytes:
    return content[: _offset(content, random)]


def insert(content: bytes, random: Random) -> bytes:
    at = _offset(content, random)
    return content[:at] + random.randbytes(_length(random)) + content[at:]


def drop(content: bytes, random: Random) -> bytes:
    at = _offset(content, random)
    return content[:at] + content[at + _length(random) :]


def repeat(content: bytes, random: Random) -> bytes:
    at = _offset(content, random)
    return content[:at] + content[at : at + _length(random)] + content[at:]


def swap(content: bytes, random: Random) -> bytes:
    """Exchange two pieces of equal length."""
    length = min(_length(random), len(content) // 2)
    a, b = sorted((_offset(content, random), _offset(content, random)))
    b = max(b, a + length)
    one, two = content[a : a + length], content[b : b + length]
    return content[:a] + two + content[a + length : b] + one + content[b + length :]


def blank(content: bytes, random: Random) -> bytes:
    """Zero a range, like a sector that was never written."""
    at = _offset(content, random)
    length = len(content[at : at + random.choice((16, 512, 4096))])
    return content[:at] + bytes(length) + content[at + length :]


def edit_header(content: bytes, random: Random) -> bytes:
    """Replace a number near the start or end by an extreme one."""
    width, order = random.choice((1, 2, 4)), random.choice("<>")
    span = min(HEAD, len(content))
    at = random.randrange(span) + random.choice((0, len(content) - span))
    value = random.choice(NUMBERS) & (256**width - 1)
    return _overwrite(content, at, struct.pack(order + {1: "B", 2: "H", 4: "I"}[width], value))


def edit_field(content: bytes, random: Random) -> bytes:
    """Replace a number in one of MP4's tables by an extreme one."""
    offsets = [match.start() for name in FIELDS for match in re.finditer(name, content)]
    if not offsets:
        return edit_header(content, random)
    at = random.choice(offsets) + 4 + 4 * random.randrange(1, 12)
    return _overwrite(content, at, struct.pack(">I", random.choice(NUMBERS)))


def move_box(content: bytes, random: Random) -> bytes:
    """Drop, repeat or rename an MP4 box, or change its length."""
    boxes = [(match.start(), int.from_bytes(match[1], "big")) for match in BOX.finditer(content)]
    if not boxes:
        return swap(content, random)
    at, size = random.choice(boxes)
    box = content[at : at + size]
    action = random.randrange(4)
    if action < 2:
        return content[:at] + box * (0, 2)[action] + content[at + size :]
    if action == 2:
        return _overwrite(content, at + 4, b"free")
    return _overwrite(content, at, struct.pack(">I", random.choice((*NUMBERS, size - 1, size + 8))))


MUTATIONS: tuple[Mutation, ...] = (
    flip, flip_many, truncate, insert, drop, repeat, swap, blank, edit_header, edit_field, move_box,
)  # fmt: skip


def mutate_bytes(content: bytes, random: Random, others: Sequence[bytes]) -> tuple[bytes, str]:
    """The content after one to three mutations, or with another file appended; and their names."""
    if random.random() < 0.04:
        return content + random.choice(others), "another file appended"
    mutations = random.choices(MUTATIONS, k=random.choice((1, 1, 2, 3)))
    for mutation in mutations:
        content = mutation(content, random) if content else content
    return content, ", ".join(mutation.__name__ for mutation in mutations)


def _offset(content: bytes, random: Random) -> int:
    """A random offset; with probability 1/2 among the first bytes, where formats have their headers."""
    return random.randrange(min(HEAD, len(content)) if random.random() < 0.5 else len(content))


def _length(random: Random) -> int:
    return int(2 ** random.uniform(0, 11))


def _overwrite(content: bytes, at: int, number: bytes) -> bytes:
    return (content[:at] + number + content[at + len(number) :])[: max(len(content), at)]
