"""Chains of detections in consecutive frames: tracks that are being built."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from .region_map import Array, Detection, Point, project

_STEADY = 0.7  # weight of the last step in the velocity; the rest is the velocity before
_DOUBT = 0.3  # detections by chance that are assumed around every detection


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionConfig:
    """Tunables of what counts as a fast mover. Speeds are relative to the background."""

    min_detections: int = 3
    min_speed_px: float = 2.5  # pixels of the full frame per frame interval, and
    min_speed_fraction: float = 0.005  # the same, of the height of the frame: the larger counts
    # Overlays and what the camera follows rest on the screen, so that no exposure blurs them.
    min_screen_speed: float = 0.5  # of the smallest speed: motion in the frame, whatever the background does
    min_straightness: float = 0.7  # displacement over length of the path
    min_sides: float = 0.5  # displacement over the shorter side of the mover
    min_sides_of_part: float = 1.0  # the same of a straight part of a path with turns
    max_roughness: float = 0.6  # median second difference of the positions over the median speed
    min_significance: float = 2.0  # median: contrast over half the width of the background's range
    max_predicted: float = 0.35  # fraction of the frames without a detection
    max_false_alarms: float = 1e-4  # expected number of such chains by chance, per frame

    def min_speed(self, size: tuple[int, int]) -> float:
        """Pixels per frame interval in a frame of `size` (H, W)."""
        return max(self.min_speed_px, self.min_speed_fraction * size[0])


@dataclass(slots=True)
class Chain:
    """Positions are kept in the coordinates of the latest frame."""

    detections: list[Detection]
    path: Array  # [N, 2] the centres, moved with the background
    density: float  # other detections per pixel around the last one
    background: list[Point] = field(default_factory=list)  # as of `Track`
    velocity: Array = field(default_factory=lambda: np.zeros(2))
    missed: int = 0  # latest frames without a detection
    hidden: int = 0  # those of them in which a larger detection covered the prediction
    log_chance: float = 0.0  # logarithm of the probability of the chain by chance

    @property
    def last(self) -> Detection:
        return self.detections[-1]

    def copy(self) -> Chain:
        return replace(self, detections=list(self.detections), background=list(self.background))

    def carry(self, matrix: Array) -> None:
        """Move to the next frame; `matrix` maps the previous frame to it."""
        ends = project(matrix, np.vstack([self.path, self.path[-1] + self.velocity]))
        self.path, self.velocity = ends[:-1], ends[-1] - ends[-2]
        if not self.missed:
            self.background.append((float(self.path[-1, 0]), float(self.path[-1, 1])))

    def predicted(self) -> Point:
        """Position in the latest frame."""
        x, y = (self.path[-1] + (self.missed + 1) * self.velocity).tolist()
        return x, y

    def append(self, other: Chain) -> None:
        """Add the detection of a chain of one, and interpolate the frames without one before it."""
        start, end, count = self.path[-1], other.path[-1], self.missed + 1
        error = float(np.linalg.norm(end - self.predicted())) if len(self.path) > 1 else None
        self._add_chance(error, float(np.linalg.norm(end - start)), other.density)
        for k in range(1, count):
            self._interpolate(start + (end - start) * k / count)
        step = (end - start) / count
        self.velocity = step if len(self.path) == 1 else _STEADY * step + (1 - _STEADY) * self.velocity
        self.path = np.vstack([self.path, end])
        self.detections.append(other.last)
        self.missed = self.hidden = 0
        self.density = other.density

    def prepend(self, other: Chain) -> None:
        """Add a detection of the frame before the first."""
        expected = 2 * self.path[0] - self.path[1]
        self._add_chance(float(np.linalg.norm(other.path[-1] - expected)), 0.0, other.density)
        self.path = np.vstack([other.path, self.path])
        self.detections.insert(0, other.last)
        self.background.insert(0, other.background[0])

    def fast_parts(self, config: MotionConfig, min_speed: float) -> list[Chain]:
        """The chain, or straight parts of it, if it is that of a fast mover and hardly there by chance."""
        if self.log_chance >= math.log(config.max_false_alarms):
            return []
        if self._is_fast(config, min_speed):
            return [self]
        # A mover that turns has to leave its own silhouette between two turns; what fidgets does not.
        return [
            part
            for part in self._straight_parts(config)
            if part._is_fast(config, min_speed) and part._sides() >= config.min_sides_of_part
        ]

    def _is_fast(self, config: MotionConfig, min_speed: float) -> bool:
        """Whether it is distinct, fast, straight and smooth."""
        seen = [detection for detection in self.detections if not detection.predicted]
        if len(seen) < max(config.min_detections, (1 - config.max_predicted) * len(self.detections)):
            return False
        steps = np.diff(self.path, axis=0)
        speed = float(np.median(np.linalg.norm(steps, axis=1)))
        turns = np.linalg.norm(np.diff(steps, axis=0), axis=1)
        centres = np.array([detection.centre for detection in self.detections])
        on_screen = float(np.median(np.linalg.norm(np.diff(centres, axis=0), axis=1)))
        return (
            speed >= min_speed
            and on_screen >= config.min_screen_speed * min_speed
            and _straightness(self.path) >= config.min_straightness
            and self._sides() >= config.min_sides
            and float(np.median(turns)) <= config.max_roughness * speed
            and float(np.median([d.significance for d in seen])) >= config.min_significance
        )

    def _straight_parts(self, config: MotionConfig) -> list[Chain]:
        """Consecutive parts, each as long as it is straight."""
        parts, start = [], 0
        for stop in range(2, len(self.path) + 1):
            bent = _straightness(self.path[start:stop]) < config.min_straightness
            if bent or stop == len(self.path):
                end = stop - 1 if bent else stop
                parts.append(self._part(start, end))
                start = end - 1
        return parts

    def _part(self, start: int, stop: int) -> Chain:
        return Chain(
            detections=self.detections[start:stop],
            path=self.path[start:stop],
            density=self.density,
            background=self.background[start : stop - 1],
        )

    def _sides(self) -> float:
        """Displacement over the shorter side of the mover."""
        sides = [min(detection.box.width, detection.box.height) for detection in self.detections]
        return float(np.linalg.norm(self.path[-1] - self.path[0])) / float(np.median(sides))

    def _add_chance(self, error: float | None, step: float, density: float) -> None:
        """Count the detections that would have continued the chain as well, by chance.

        Detections by chance are a Poisson process of a `density` per pixel: an a-contrario model (Desolneux,
        Moisan & Morel 2000).
        """
        radius = step if error is None else max(1.0, error)
        self.log_chance += min(
            0.0 if error is not None else math.inf, math.log(density * math.pi * radius**2)
        )

    def _interpolate(self, position: Array) -> None:
        x, y = position.tolist()
        dx, dy = x - self.last.centre[0], y - self.last.centre[1]
        box, index = self.last.box.shift(dx, dy), self.last.index + 1
        self.path = np.vstack([self.path, position])
        self.detections.append(replace(self.last, index=index, centre=(x, y), box=box, predicted=True))
        self.background.append((x, y))


def _straightness(path: Array) -> float:
    """Displacement over length of a path; 1 on a straight line."""
    length = float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())
    return float(np.linalg.norm(path[-1] - path[0])) / max(length, 1e-6)


def single_chains(detections: list[Detection], *, radius: float) -> list[Chain]:
    """A chain for each detection of a frame. The density is that within `radius` pixels or two sides."""
    if not detections:
        return []
    centres = np.array([detection.centre for detection in detections])
    distances = np.linalg.norm(centres[:, None] - centres, axis=-1)
    sides = np.array([max(detection.box.width, detection.box.height) for detection in detections])
    radii = np.maximum(radius, 2.0 * sides)
    others = (distances < radii[:, None]).sum(1) - 1 + _DOUBT
    start = math.log(len(detections))
    return [
        Chain(detections=[d], path=c[None], density=float(n) / (math.pi * float(r) ** 2), log_chance=start)
        for d, c, n, r in zip(detections, centres, others, radii, strict=True)
    ]
