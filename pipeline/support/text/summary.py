"""A run in a few lines: the plan before it, and afterwards counts, reasons and hints."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction

from freezeframe.data.types import Action, Verdict
from freezeframe.pipeline.support.tracks import corrected_objects

from .units import format_duration, pluralize, suggest_min_blur

MAX_REASONS = 4  # reasons that are listed one by one


def format_plan(  # noqa: PLR0913  # one per number of the line
    name: str,
    *,
    frames: int | None,
    size: tuple[int, int] | None,
    rate: Fraction | float | None,
    work: int | None = None,
    seconds: float | None = None,
) -> str:
    """The plan of a run, such as `a.mp4: 75 frames, 640x360, 25 fps; 41 to deblur, about 2 min`.

    Args:
        name: Name of the clip.
        frames: Frames in all; None if only decoding shows the number.
        size: Height and width in pixels.
        rate: Frames per second.
        work: Frames to process; None if unknown.
        seconds: Estimated time in all; None if unknown.
    """
    facts = [
        pluralize(frames, "frame") if frames is not None else "",
        f"{size[1]}x{size[0]}" if size else "",
        f"{float(rate):.4g} fps" if rate else "",
    ]
    work_text = "nothing to deblur" if work == 0 else f"{work} to deblur" if work is not None else ""
    plan = ", ".join(filter(None, [work_text, format_duration(seconds) if seconds is not None else ""]))
    return f"{name}: " + "; ".join(filter(None, [", ".join(filter(None, facts)), plan]))


def format_counts(verdicts: Sequence[Verdict]) -> str:
    """Number of frames per action, and of the fast objects that were corrected in some of them."""
    frames, tracks = corrected_objects(verdicts)
    objects = f" ({pluralize(tracks, 'fast object')} in {pluralize(frames, 'frame')})" if tracks else ""
    return (
        f"{len(_with_action(verdicts, 'deblurred'))} deblurred{objects},"
        f" {len(_with_action(verdicts, 'passthrough'))} passed through,"
        f" {len(_with_action(verdicts, 'fallback'))} rejected (original frame kept)"
    )


def format_remarks(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Reasons of passed-through and rejected frames, and a hint on --min-blur."""
    passthrough, rejected = _with_action(verdicts, "passthrough"), _with_action(verdicts, "fallback")
    if passthrough:
        yield f"passed through: {_format_reasons(passthrough)}"
    if rejected:
        frames, them = pluralize(len(rejected), "frame"), "keeps its" if len(rejected) == 1 else "keep their"
        yield f"rejected: {_format_reasons(rejected)}; {frames} {them} original picture and may flicker"
    yield from _min_blur_hint(verdicts)


def _with_action(verdicts: Iterable[Verdict], action: Action) -> list[Verdict]:
    return [verdict for verdict in verdicts if verdict.action == action]


def _min_blur_hint(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """The --min-blur to use if every frame passed through although something moves."""
    suggestion = suggest_min_blur([verdict.blur for verdict in verdicts])
    if suggestion is None or any(verdict.action != "passthrough" for verdict in verdicts):
        return
    limit, count = suggestion
    yield (
        "hint: nothing was deblurred, but something moves;"
        f" --min-blur {limit:g} would process {pluralize(count, 'frame')}"
    )


def _format_reasons(verdicts: Sequence[Verdict]) -> str:
    """Number of frames per reason, most frequent first; a reason of one frame keeps its numbers."""
    groups: dict[str, list[str]] = defaultdict(list)
    for verdict in verdicts:
        groups[_reason_category(verdict.reason)].append(verdict.reason)
    by_count = sorted(groups.items(), key=lambda group: -len(group[1]))
    listed = by_count[: MAX_REASONS if len(groups) > MAX_REASONS + 1 else None]
    others = len(verdicts) - sum(len(reasons) for _, reasons in listed)
    parts = [
        f"{len(reasons)} ({reasons[0] if len(reasons) == 1 else category})" for category, reasons in listed
    ]
    return ", ".join([*parts, f"{others} for other reasons"] if others else parts)


def _reason_category(reason: str) -> str:
    """A reason without its numbers, so that the reasons of many frames are counted together."""
    category, *_ = re.split(r"(?: by| over| of|,)? *\(?\d", reason)
    return category
