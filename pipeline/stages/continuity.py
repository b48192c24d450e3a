"""Decisions with memory: what is done to a frame changes little from one to the next.

Each frame is judged by itself, and judgements have noise. The share of a change that is shown may rise or
fall by at most `MAX_SLOPE` a frame: frames near a blurred one are sharpened in part, and frames near one whose
change was rejected give up a part of theirs. Both are envelopes (dilation and erosion by a cone, in
mathematical morphology), and the smaller of both is taken; it depends on `FADE_RADIUS` frames on either side only.
"""

from __future__ import annotations

from collections.abc import Sequence

FADE_RADIUS = 2  # frames on either side that a frame's share depends on
MAX_SLOPE = 1 / (FADE_RADIUS + 1)  # largest change of a share from frame to frame


def dilate(weights: Sequence[float]) -> list[float]:
    """The smallest envelope above `weights`, [T] in [0, 1], that changes by at most `MAX_SLOPE` a frame."""
    return [
        max(weights[j] - MAX_SLOPE * abs(i - j) for j in _window(i, len(weights)))
        for i in range(len(weights))
    ]


def erode(limits: Sequence[float]) -> list[float]:
    """The largest envelope below `limits`, [T] in [0, 1], that changes by at most `MAX_SLOPE` a frame."""
    return [
        min(limits[j] + MAX_SLOPE * abs(i - j) for j in _window(i, len(limits))) for i in range(len(limits))
    ]


def dilate_mask(chosen: Sequence[bool]) -> list[bool]:
    """Frames that are chosen, or within `FADE_RADIUS` of one that is."""
    return [any(chosen[j] for j in _window(i, len(chosen))) for i in range(len(chosen))]


def _window(i: int, count: int) -> range:
    return range(max(0, i - FADE_RADIUS), min(count, i + FADE_RADIUS + 1))
