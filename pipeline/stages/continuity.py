"""Decisions with memory: what is done to a frame changes little from one to the next.

Each frame is judged by itself, and judgements have noise. The share of a change that is shown may rise or
fall by at most `SLOPE` a frame: frames near a blurred one are sharpened in part, and frames near one whose
change was rejected give up a part of theirs. Both are envelopes (dilation and erosion by a cone, in
mathematical morphology), and the smaller of both is taken; it depends on `REACH` frames on either side only.
"""

from __future__ import annotations

from collections.abc import Sequence

REACH = 2  # frames on either side that a frame's share depends on
SLOPE = 1 / (REACH + 1)  # largest change of a share from frame to frame


def dilated(weights: Sequence[float]) -> list[float]:
    """The smallest envelope above `weights`, [T] in [0, 1], that changes by at most `SLOPE` a frame."""
    return [max(weights[j] - SLOPE * abs(i - j) for j in _near(i, len(weights))) for i in range(len(weights))]


def eroded(limits: Sequence[float]) -> list[float]:
    """The largest envelope below `limits`, [T] in [0, 1], that changes by at most `SLOPE` a frame."""
    return [min(limits[j] + SLOPE * abs(i - j) for j in _near(i, len(limits))) for i in range(len(limits))]


def widened(chosen: Sequence[bool]) -> list[bool]:
    """Frames that are chosen, or within `REACH` of one that is."""
    return [any(chosen[j] for j in _near(i, len(chosen))) for i in range(len(chosen))]


def _near(i: int, count: int) -> range:
    return range(max(0, i - REACH), min(count, i + REACH + 1))
