"""Parallax: static objects nearer than the background, which a moving camera shifts alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .region_map import Array, Track, project


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallaxConfig:
    """Tunables of what counts as parallax."""

    min_pan: float = 1.5  # pixels per frame interval of the background
    max_angle: float = 0.35  # radians between the motion and that of the background
    max_slip: float = 0.35  # difference of the velocities of objects at one depth, relative to the speed
    min_alike: int = 3  # tracks at the same time, all of them shifted alike


_DEFAULT = ParallaxConfig()


def drop_parallax(
    tracks: Sequence[Track], steps: Sequence[Array | None], *, config: ParallaxConfig = _DEFAULT
) -> tuple[Track, ...]:
    """Leave out tracks that move along the pan as several others do.

    One mover along a pan may be a runner; several of one velocity are the foreground.

    Args:
        tracks: Movers.
        steps: Homographies from each frame to the next, None at cuts.
        config: Tunables.
    """
    suspects = [track for track in tracks if _moves_along_pan(track, steps, config)]
    dropped = {
        track.number
        for track in suspects
        if sum(_alike(track, other, config) for other in suspects) >= config.min_alike
    }
    return tuple(track for track in tracks if track.number not in dropped)


def _moves_along_pan(track: Track, steps: Sequence[Array | None], config: ParallaxConfig) -> bool:
    pans, moves = [], []
    for number, (x0, y0) in enumerate(track.background):
        matrix, detection = steps[track.span.start + number], track.detections[number]
        if matrix is not None:
            pans.append(project(matrix, np.array([detection.centre]))[0] - detection.centre)
            x, y = track.detections[number + 1].centre
            moves.append((x - x0, y - y0))
    if not pans:
        return False
    pan, move = np.median(pans, axis=0), np.median(moves, axis=0)
    if math.hypot(*pan) < config.min_pan:
        return False
    angle = abs(math.atan2(pan[0] * move[1] - pan[1] * move[0], float(pan @ move)))
    return min(angle, math.pi - angle) < config.max_angle


def _alike(track: Track, other: Track, config: ParallaxConfig) -> bool:
    """Whether two tracks share frames and a velocity; a track is like itself."""
    if max(track.span.start, other.span.start) >= min(track.span.stop, other.span.stop):
        return False
    a, b = (np.median([t.step(k) for k in range(len(t.background))], axis=0) for t in (track, other))
    return math.dist(a, b) <= config.max_slip * math.hypot(*a)
