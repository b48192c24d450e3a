"""Tracks from detections: constant velocity with tolerance, relative to the background."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from .region_map import Array, Detection, Point, Track, project


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkConfig:
    """Tunables of the tracks. Speeds are relative to the background."""

    min_detections: int = 3
    min_speed_px: float = 2.5  # pixels of the full frame per frame interval, and
    min_speed_fraction: float = 0.004  # the same, of the height of the frame: the larger counts
    max_speed_fraction: float = 0.15  # of the width of the frame
    tolerance: float = 0.35  # error of the predicted position, relative to the speed
    tolerance_side: float = 0.15  # the same, relative to the side of the mover
    tolerance_px: float = 3.0  # the same, pixels
    max_ratio: float = 2.5  # of areas and of contrasts in consecutive frames
    max_gap: int = 2  # frames without a detection
    min_straightness: float = 0.7  # displacement over length of the path
    max_roughness: float = 0.25  # median second difference of the positions over the median speed


_DEFAULT = LinkConfig()


@dataclass(slots=True)
class _Chain:
    """A track that is being built. Positions are kept in the coordinates of the latest frame."""

    detections: list[Detection]
    background: list[Point]
    path: Array  # [N, 2] the centres, moved with the background
    missed: int = 0
    velocity: Array = field(default_factory=lambda: np.zeros(2))

    @property
    def last(self) -> Detection:
        return self.detections[-1]

    def carry(self, matrix: Array) -> None:
        """Move to the next frame."""
        ends = project(matrix, np.vstack([self.path, self.path[-1] + self.velocity]))
        self.path, self.velocity = ends[:-1], ends[-1] - ends[-2]
        if not self.missed:
            self.background.append((float(self.path[-1, 0]), float(self.path[-1, 1])))

    def predicted(self) -> Array:
        return np.asarray(self.path[-1] + (self.missed + 1) * self.velocity)


class Linker:
    """Links detections, frame by frame."""

    def __init__(self, size: tuple[int, int], *, config: LinkConfig = _DEFAULT) -> None:
        self._config = config
        self._min_speed = max(config.min_speed_px, config.min_speed_fraction * size[0])
        self._max_speed = config.max_speed_fraction * size[1]
        self._chains: list[_Chain] = []
        self._loose: list[list[_Chain]] = [[], []]  # single detections of the last two frames, oldest first
        self._finished: list[_Chain] = []

    def add(self, detections: Sequence[Detection], matrix: Array | None) -> None:
        """Add the next frame; `matrix` maps the previous frame to it, None at a cut."""
        if matrix is None:
            self._close(self._chains)
            self._chains, self._loose = [], [[], []]
        else:
            for chain in itertools.chain(self._chains, *self._loose):
                chain.carry(matrix)
        free = self._extend(detections)
        free = self._start(free)
        self._loose = [self._loose[1], [_single(detection) for detection in free]]

    def finish(self) -> tuple[Track, ...]:
        """The tracks of all frames so far, in the order of their first frames."""
        self._close(self._chains)
        self._chains = []
        ordered = sorted(self._finished, key=lambda chain: chain.detections[0].index)
        return tuple(
            Track(number=number, detections=tuple(c.detections), background=tuple(c.background))
            for number, c in enumerate(ordered)
        )

    def _extend(self, detections: Sequence[Detection]) -> list[Detection]:
        """Continue chains with the detections nearest to their predictions; returns the others."""
        pairs = [
            (cost, i, j)
            for i, chain in enumerate(self._chains)
            for j, detection in enumerate(detections)
            if (cost := self._cost(chain, detection)) < 1
        ]
        matched = dict(_greedy(pairs))
        for i, chain in enumerate(self._chains):
            if i in matched:
                _append(chain, detections[matched[i]])
            else:
                chain.missed += 1
        ended = [chain for chain in self._chains if chain.missed > self._config.max_gap]
        self._close(ended)
        self._chains = [chain for chain in self._chains if chain.missed <= self._config.max_gap]
        taken = set(matched.values())
        return [detection for j, detection in enumerate(detections) if j not in taken]

    def _cost(self, chain: _Chain, detection: Detection) -> float:
        """Below 1 where the detection may continue the chain."""
        x, y = chain.predicted().tolist()
        distance = math.hypot(x - detection.centre[0], y - detection.centre[1])
        speed = math.hypot(*chain.velocity.tolist())
        allowed = max(self._config.tolerance * speed, self._slack(chain.last)) * (1 + 0.5 * chain.missed)
        return distance / allowed if distance < allowed and self._alike(chain.last, detection) else math.inf

    def _slack(self, detection: Detection) -> float:
        """Pixels by which any prediction may be wrong."""
        side = max(detection.box.width, detection.box.height)
        return max(self._config.tolerance_px, self._config.tolerance_side * side)

    def _alike(self, a: Detection, b: Detection) -> bool:
        limit = self._config.max_ratio
        return (
            max(a.area, b.area) <= limit * min(a.area, b.area)
            and a.contrast * b.contrast > 0
            and (max(abs(a.contrast), abs(b.contrast)) <= limit * min(abs(a.contrast), abs(b.contrast)))
        )

    def _start(self, free: Sequence[Detection]) -> list[Detection]:
        """Start chains from detections of three frames in steady motion; returns the others."""
        used: tuple[set[int], set[int], set[int]] = (set(), set(), set())
        for _, i, j, k in sorted(self._triples(free)):
            if i in used[0] or j in used[1] or k in used[2]:
                continue
            first, middle = self._loose[0][i], self._loose[1][j]
            chain = _Chain(
                detections=[first.last, middle.last],
                background=[first.background[0], middle.background[0]],
                path=np.vstack([first.path, middle.path]),
            )
            _append(chain, free[k])
            self._chains.append(chain)
            for seen, number in zip(used, (i, j, k), strict=True):
                seen.add(number)
        self._loose[1] = [chain for j, chain in enumerate(self._loose[1]) if j not in used[1]]
        return [detection for k, detection in enumerate(free) if k not in used[2]]

    def _triples(self, free: Sequence[Detection]) -> list[tuple[float, int, int, int]]:
        """Cost, and numbers of the first, second and third detection."""
        if not (self._loose[0] and self._loose[1] and free):
            return []
        first, middle = (np.stack([chain.path[-1] for chain in row]) for row in self._loose)
        steps = middle[None] - first[:, None]
        speeds = np.linalg.norm(steps, axis=-1)
        ends = np.array([detection.centre for detection in free])
        errors = np.linalg.norm((middle[None] + steps)[:, :, None] - ends, axis=-1)
        allowed = np.maximum(
            self._config.tolerance * speeds,
            [self._slack(chain.last) for chain in self._loose[1]],
        )[..., None]
        possible = (speeds >= self._min_speed) & (speeds <= self._max_speed)
        numbers = np.argwhere(possible[..., None] & (errors < allowed)).tolist()
        return [
            (float(errors[i, j, k] / allowed[i, j, 0]), i, j, k)
            for i, j, k in numbers
            if self._alike(self._loose[0][i].last, self._loose[1][j].last)
            and self._alike(self._loose[1][j].last, free[k])
        ]

    def _close(self, chains: Iterable[_Chain]) -> None:
        for chain in chains:
            del chain.background[len(chain.detections) - 1 :]
            if self._moves(chain):
                self._finished.append(chain)

    def _moves(self, chain: _Chain) -> bool:
        """Whether the chain is that of a fast mover: far, straight and smooth."""
        config = self._config
        if sum(not detection.predicted for detection in chain.detections) < config.min_detections:
            return False
        steps = np.diff(chain.path, axis=0)
        lengths = np.linalg.norm(steps, axis=1)
        far = float(np.linalg.norm(chain.path[-1] - chain.path[0]))
        turns = np.linalg.norm(np.diff(steps, axis=0), axis=1)
        return (
            float(np.median(lengths)) >= self._min_speed
            and far >= config.min_straightness * float(lengths.sum())
            and float(np.median(turns)) <= config.max_roughness * float(np.median(lengths))
        )


def _single(detection: Detection) -> _Chain:
    return _Chain(detections=[detection], background=[], path=np.array([detection.centre]))


def _append(chain: _Chain, detection: Detection) -> None:
    """Add a detection, and predictions for the frames before it that had none."""
    start, end = chain.path[-1], np.array(detection.centre)
    count = chain.missed + 1
    for k in range(1, count):
        x, y = (start + (end - start) * k / count).tolist()
        chain.path = np.vstack([chain.path, [x, y]])
        dx, dy = x - chain.last.centre[0], y - chain.last.centre[1]
        index = chain.last.index + 1
        box = chain.last.box.shift(dx, dy)
        chain.detections.append(replace(chain.last, index=index, centre=(x, y), box=box, predicted=True))
        chain.background.append((x, y))
    chain.path = np.vstack([chain.path, end])
    chain.detections.append(detection)
    chain.missed = 0
    step = chain.path[-1] - chain.path[-2]
    chain.velocity = step


def _greedy(pairs: Iterable[tuple[float, int, int]]) -> Iterable[tuple[int, int]]:
    """Cheapest pairs first, each number once."""
    left: set[int] = set()
    right: set[int] = set()
    for _, i, j in sorted(pairs):
        if i not in left and j not in right:
            left.add(i)
            right.add(j)
            yield i, j
