"""Ways to harm a file, each drawn from a `Random`: the same number gives the same harm."""

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
    at, bit = _place(content, random), 1 << random.randrange(8)
    return content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :]


def flip_many(content: bytes, random: Random) -> bytes:
    """One byte in two hundred, as a failing card does."""
    mutated = bytearray(content)
    for _ in range(1 + len(content) // 200):
        mutated[_place(content, random)] = random.randrange(256)
    return bytes(mutated)


def truncate(content: bytes, random: Random) -> bytes:
    return content[: _place(content, random)]


def insert(content: bytes, random: Random) -> bytes:
    at = _place(content, random)
    return content[:at] + random.randbytes(_length(random)) + content[at:]


def drop(content: bytes, random: Random) -> bytes:
    at = _place(content, random)
    return content[:at] + content[at + _length(random) :]


def repeat(content: bytes, random: Random) -> bytes:
    at = _place(content, random)
    return content[:at] + content[at : at + _length(random)] + content[at:]


def swap(content: bytes, random: Random) -> bytes:
    """Two pieces of one length change places."""
    length = min(_length(random), len(content) // 2)
    a, b = sorted((_place(content, random), _place(content, random)))
    b = max(b, a + length)
    one, two = content[a : a + length], content[b : b + length]
    return content[:a] + two + content[a + length : b] + one + content[b + length :]


def blank(content: bytes, random: Random) -> bytes:
    """A stretch of zeros, as of a sector that was never written."""
    at = _place(content, random)
    gone = len(content[at : at + random.choice((16, 512, 4096))])
    return content[:at] + bytes(gone) + content[at + gone :]


def edit_header(content: bytes, random: Random) -> bytes:
    """A number near either end becomes an extreme one."""
    width, order = random.choice((1, 2, 4)), random.choice("<>")
    span = min(HEAD, len(content))
    at = random.randrange(span) + random.choice((0, len(content) - span))
    value = random.choice(NUMBERS) & (256**width - 1)
    return _written(content, at, struct.pack(order + {1: "B", 2: "H", 4: "I"}[width], value))


def edit_field(content: bytes, random: Random) -> bytes:
    """A number in one of MP4's tables becomes an extreme one."""
    places = [found.start() for name in FIELDS for found in re.finditer(name, content)]
    if not places:
        return edit_header(content, random)
    at = random.choice(places) + 4 + 4 * random.randrange(1, 12)
    return _written(content, at, struct.pack(">I", random.choice(NUMBERS)))


def move_box(content: bytes, random: Random) -> bytes:
    """A box of MP4 is dropped, doubled, renamed or states another length."""
    boxes = [(found.start(), int.from_bytes(found[1], "big")) for found in BOX.finditer(content)]
    if not boxes:
        return swap(content, random)
    at, size = random.choice(boxes)
    box = content[at : at + size]
    what = random.randrange(4)
    if what < 2:
        return content[:at] + box * (0, 2)[what] + content[at + size :]
    if what == 2:
        return _written(content, at + 4, b"free")
    return _written(content, at, struct.pack(">I", random.choice((*NUMBERS, size - 1, size + 8))))


MUTATIONS: tuple[Mutation, ...] = (
    flip, flip_many, truncate, insert, drop, repeat, swap, blank, edit_header, edit_field, move_box,
)  # fmt: skip


def mutate_bytes(content: bytes, random: Random, others: Sequence[bytes]) -> tuple[bytes, str]:
    """The content after one to three harms, or with another file's put behind it; and what was done."""
    if random.random() < 0.04:
        return content + random.choice(others), "another file behind it"
    chosen = random.choices(MUTATIONS, k=random.choice((1, 1, 2, 3)))
    for harm in chosen:
        content = harm(content, random) if content else content
    return content, ", ".join(harm.__name__ for harm in chosen)


def _place(content: bytes, random: Random) -> int:
    """Anywhere; every second time among the first bytes, where a format says what it is."""
    return random.randrange(min(HEAD, len(content)) if random.random() < 0.5 else len(content))


def _length(random: Random) -> int:
    return int(2 ** random.uniform(0, 11))


def _written(content: bytes, at: int, number: bytes) -> bytes:
    return (content[:at] + number + content[at + len(number) :])[: max(len(content), at)]
