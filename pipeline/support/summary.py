"""A run in a few lines: before it, what will be done; after it, what was done, what was not, and why."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

from freezeframe.data.types import Verdict

from .units import format_duration, pluralize, suggest_min_blur

MAX_REASONS = 4  # reasons that are named one by one


class Size(NamedTuple):
    """Of a frame, in pixels."""

    height: int
    width: int


def format_plan(  # noqa: PLR0913  # one for each word of the line
    name: str,
    *,
    frames: int | None,
    size: tuple[int, int] | None,
    rate: Fraction | float | None,
    work: int | None = None,
    seconds: float | None = None,
) -> str:
    """What is known before the work, such as `a.mp4: 75 frames, 640x360, 25 fps; 41 to sharpen, about 2 min`.

    Args:
        name: Of the clip.
        frames: In all; None where only decoding tells.
        size: Height and width in pixels.
        rate: Frames per second.
        work: How many frames will be worked on; None where that is not known.
        seconds: What this will take, in all; None where nothing tells.
    """
    facts = [
        pluralize(frames, "frame") if frames is not None else "",
        f"{size[1]}x{size[0]}" if size else "",
        f"{float(rate):.4g} fps" if rate else "",
    ]
    work_text = "nothing to sharpen" if work == 0 else f"{work} to sharpen" if work is not None else ""
    plan = ", ".join(filter(None, [work_text, format_duration(seconds) if seconds is not None else ""]))
    return f"{name}: " + "; ".join(filter(None, [", ".join(filter(None, facts)), plan]))


def format_counts(verdicts: Iterable[Verdict]) -> str:
    """How many frames were sharpened, left as they are, and rejected."""
    counts = Counter(verdict.action for verdict in verdicts)
    return (
        f"{counts['deblurred']} sharpened, {counts['passthrough']} left unchanged,"
        f" {counts['fallback']} rejected (original frame kept)"
    )


def format_remarks(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Why frames were left as they are, and what may help."""
    passthrough = [verdict for verdict in verdicts if verdict.action == "passthrough"]
    rejected = [verdict for verdict in verdicts if verdict.action == "fallback"]
    if passthrough:
        yield f"left unchanged: {_format_reasons(passthrough)}"
    if rejected:
        frames, them = pluralize(len(rejected), "frame"), "keeps its" if len(rejected) == 1 else "keep their"
        yield f"rejected: {_format_reasons(rejected)}; {frames} {them} original picture and may flicker"
    yield from _min_blur_hint(verdicts)


def _min_blur_hint(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """What to type where nothing was done although something is blurred."""
    lower = suggest_min_blur([verdict.blur for verdict in verdicts])
    if lower is None or any(verdict.action != "passthrough" for verdict in verdicts):
        return
    limit, count = lower
    yield (
        "hint: nothing was sharpened, but something moves;"
        f" --min-blur {limit:g} would process {pluralize(count, 'frame')}"
    )


def _format_reasons(verdicts: Sequence[Verdict]) -> str:
    counts = Counter(_reason_category(verdict.reason) for verdict in verdicts)
    listed = counts.most_common(MAX_REASONS if len(counts) > MAX_REASONS + 1 else None)
    others = len(verdicts) - sum(count for _, count in listed)
    parts = [f"{count} {reason}" for reason, count in listed]
    return ", ".join([*parts, f"{others} for other reasons"] if others else parts)


def _reason_category(reason: str) -> str:
    """A reason without its figures, so that those of many frames count as one."""
    category, *_ = re.split(r"(?: by| over| of|,)? *\(?\d", reason)
    return f"({category})"
