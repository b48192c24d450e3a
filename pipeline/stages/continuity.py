"""Temporal envelopes of the strength of the correction.

Decisions per frame are noisy. The strength may rise or fall by at most `MAX_SLOPE` per frame: frames near a
blurred one get a part of their correction, and frames near a rejected one lose a part of theirs. Both are
envelopes (dilation and erosion by a cone, in mathematical morphology). The smaller one is applied to whole
frames, the mean of both to the layers of movers. An envelope depends on `FADE_RADIUS` frames on either side.
"""

from __future__ import annotations

from collections.abc import Sequence

FADE_RADIUS = 2  # frames on either side that the strength of a frame depends on
MAX_SLOPE = 1 / (FADE_RADIUS + 1)  # largest change of strength from frame to frame


def dilate(weights: Sequence[float]) -> list[float]:
    """Smallest envelope above `weights`, [T] in [0, 1], with steps of at most `MAX_SLOPE`."""
    return [
        max(weights[j] - MAX_SLOPE * abs(i - j) for j in _window(i, len(weights)))
        for i in range(len(weights))
    ]


def erode(limits: Sequence[float]) -> list[float]:
    """Largest envelope below `limits`, [T] in [0, 1], with steps of at most `MAX_SLOPE`."""
    return [
        min(limits[j] + MAX_SLOPE * abs(i - j) for j in _window(i, len(limits))) for i in range(len(limits))
    ]


def dilate_mask(mask: Sequence[bool]) -> list[bool]:
    """Frames within `FADE_RADIUS` of a frame of `mask`."""
    return [any(mask[j] for j in _window(i, len(mask))) for i in range(len(mask))]


def _window(i: int, count: int) -> range:
    return range(max(0, i - FADE_RADIUS), min(count, i + FADE_RADIUS + 1))
