"""Tables on the terminal, and the totals below them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, get_args

Status = Literal["done", "skipped", "failed"]
STATUSES: tuple[Status, ...] = get_args(Status)


def align_columns(rows: Sequence[Sequence[str]], alignment: str) -> Iterator[str]:
    """Each row as one line; `alignment` holds "<" (left) or ">" (right) for each column."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, alignment, widths, strict=True)
        yield "  ".join(f"{cell:{side}{width}}" for cell, side, width in cells).rstrip()


def count_statuses(statuses: Sequence[Status]) -> str:
    """The totals: `3 done, 1 skipped, 0 failed`."""
    return ", ".join(f"{statuses.count(status)} {status}" for status in STATUSES)
