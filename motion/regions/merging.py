"""Parts of one mover, such as limbs, as one track."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .region_map import Detection, Point, Track

_MIN_SHARED = 3  # frames
_MAX_GAP = 0.2  # of the larger side: distance between the boxes of parts of one mover
_MAX_SLIP = 0.3  # of the speed: median difference of the velocities


def merge_tracks(tracks: Sequence[Track]) -> tuple[Track, ...]:
    """Join tracks that move together and touch; they are numbered from 0 by their first frames."""
    merged: list[Track] = []
    for track in sorted(tracks, key=lambda track: -len(track.detections)):
        whole = next((k for k, other in enumerate(merged) if _together(track, other)), None)
        if whole is None:
            merged.append(track)
        else:
            merged[whole] = _join(merged[whole], track)
    ordered = sorted(merged, key=lambda track: track.span.start)
    return tuple(replace(track, number=number) for number, track in enumerate(ordered))


def _together(part: Track, whole: Track) -> bool:
    shared = range(max(part.span.start, whole.span.start), min(part.span.stop, whole.span.stop))
    # A part that lives longer than the other is a mover of its own.
    if len(shared) < max(_MIN_SHARED, 0.7 * len(part.span)):
        return False
    gaps, slips, speeds = [], [], []
    for index in shared:
        a, b = part.at(index).box, whole.at(index).box
        gaps.append(a.gap(b) / max(a.width, a.height, b.width, b.height))
        (ax, ay), (bx, by) = part.velocity(index), whole.velocity(index)
        slips.append(math.hypot(ax - bx, ay - by))
        speeds.append(math.hypot(bx, by))
    near = float(np.median(gaps)) <= _MAX_GAP
    return near and float(np.median(slips)) <= _MAX_SLIP * float(np.median(speeds))


def _join(whole: Track, part: Track) -> Track:
    """`whole` with the pixels of `part` in the frames of both, and the motion of the larger one."""
    detections = [
        _union(detection, part.at(detection.index)) if detection.index in part.span else detection
        for detection in whole.detections
    ]
    background: list[Point] = []
    for number, (x0, y0) in enumerate(whole.background):
        (old_x, old_y), (new_x, new_y) = whole.detections[number].centre, detections[number].centre
        background.append((x0 + new_x - old_x, y0 + new_y - old_y))
    return replace(whole, detections=tuple(detections), background=tuple(background))


def _union(a: Detection, b: Detection) -> Detection:
    if b.predicted:
        return a
    area = a.area + b.area
    (ax, ay), (bx, by) = a.centre, b.centre
    return replace(
        a,
        box=a.box.union(b.box),
        centre=((a.area * ax + b.area * bx) / area, (a.area * ay + b.area * by) / area),
        area=area,
        contrast=(a.area * a.contrast + b.area * b.contrast) / area,
    )
