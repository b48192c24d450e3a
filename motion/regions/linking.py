"""Tracks from detections: constant velocity with tolerance, relative to the background."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .chains import Chain, MotionConfig, single_chains
from .merging import merge_tracks
from .region_map import Array, Detection, Track

_HISTORY = 5  # frames whose single detections may still start a track


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkConfig:
    """Tunables of the links."""

    motion: MotionConfig = field(default_factory=MotionConfig)
    max_speed_fraction: float = 0.25  # of the longer side of the frame per frame interval
    tolerance: float = 0.4  # error of the predicted position, relative to the speed
    tolerance_side: float = 0.2  # the same, relative to the side of the mover
    tolerance_px: float = 3.0  # the same, pixels
    max_start_ratio: float = 2.5  # of areas and of contrasts of the detections that start a track
    max_start_chance: float = -2.0  # logarithm of the expected number of such starts by chance
    max_ratio: float = 4.0  # the same of those that continue it
    max_gap: int = 2  # frames without a detection
    max_hidden: int = 8  # frames in which a larger detection covers the mover
    clutter_radius: float = 0.1  # of the longer side of the frame, in which detections by chance are counted


_DEFAULT = LinkConfig()


class Linker:
    """Links detections, frame by frame."""

    def __init__(self, size: tuple[int, int], *, config: LinkConfig = _DEFAULT) -> None:
        self._config = config
        self._side = max(size)
        self._min_speed = config.motion.min_speed(size)
        self._chains: list[Chain] = []
        self._loose: list[list[Chain]] = [[] for _ in range(_HISTORY)]  # by frame, oldest first
        self._finished: list[Chain] = []

    def add(self, detections: list[Detection], matrix: Array | None) -> None:
        """Add the next frame; `matrix` maps the previous frame to it, None at a cut."""
        if matrix is None:
            self._close(self._chains)
            self._chains, self._loose = [], [[] for _ in range(_HISTORY)]
        else:
            for chain in itertools.chain(self._chains, *self._loose):
                chain.carry(matrix)
        found = single_chains(detections, radius=self._config.clutter_radius * self._side)
        free = self._extend(found)
        free = self._start(free)
        self._loose = [*self._loose[1:], free]

    def finish(self) -> tuple[Track, ...]:
        """The tracks of all frames so far, in the order of their first frames."""
        self._close(self._chains)
        self._chains = []
        ordered = sorted(self._finished, key=lambda chain: chain.detections[0].index)
        tracks = [
            Track(number=number, detections=tuple(c.detections), background=tuple(c.background))
            for number, c in enumerate(ordered)
        ]
        return merge_tracks(tracks)

    def _extend(self, found: list[Chain]) -> list[Chain]:
        """Continue chains with the detections nearest to their predictions; returns the others."""
        pairs = [
            (cost, i, j)
            for j, other in enumerate(found)
            if not self._crossing(other.last)
            for i, chain in enumerate(self._chains)
            if (cost := self._cost(chain, other.last)) < math.inf
        ]
        matched = dict(_greedy(pairs))
        for i, chain in enumerate(self._chains):
            if i in matched:
                chain.append(found[matched[i]])
            else:
                chain.missed += 1
                chain.hidden += any(_covers(other.last, chain) for other in found)
        self._close([chain for chain in self._chains if self._ended(chain)])
        self._chains = [chain for chain in self._chains if not self._ended(chain)]
        taken = set(matched.values())
        return [other for j, other in enumerate(found) if j not in taken]

    def _crossing(self, detection: Detection) -> bool:
        """Whether movers of different velocities are expected where one detection is."""
        covered = [chain.velocity for chain in self._chains if _covers(detection, chain)]
        slip = max((float(np.linalg.norm(a - b)) for a, b in itertools.combinations(covered, 2)), default=0.0)
        return slip > max((float(np.linalg.norm(velocity)) for velocity in covered), default=0.0)

    def _ended(self, chain: Chain) -> bool:
        return chain.missed - chain.hidden > self._config.max_gap or chain.hidden > self._config.max_hidden

    def _cost(self, chain: Chain, detection: Detection) -> float:
        """Infinite where the detection cannot continue the chain."""
        x, y = chain.predicted()
        distance = math.hypot(x - detection.centre[0], y - detection.centre[1])
        speed = math.hypot(*chain.velocity.tolist())
        allowed = max(self._config.tolerance * speed, self._slack(chain.last)) * (1 + 0.5 * chain.missed)
        difference = _difference(chain.last, detection)
        if distance >= allowed or difference > math.log(self._config.max_ratio):
            return math.inf
        return distance / allowed + 0.3 * difference

    def _slack(self, detection: Detection) -> float:
        """Pixels by which any prediction may be wrong."""
        side = max(detection.box.width, detection.box.height)
        return max(self._config.tolerance_px, self._config.tolerance_side * side)

    def _start(self, free: list[Chain]) -> list[Chain]:
        """Start chains from detections of three frames in steady motion; returns the others."""
        used: tuple[set[int], set[int], set[int]] = (set(), set(), set())
        for _, i, j, k in sorted(self._triples(free)):
            if i in used[0] or j in used[1] or k in used[2]:
                continue
            first, middle = self._loose[-2][i], self._loose[-1][j]
            chain = first.copy()
            chain.background = [first.background[0], middle.background[0]]
            chain.append(middle)
            chain.append(free[k])
            self._chains.append(chain)
            for seen, number in zip(used, (i, j, k), strict=True):
                seen.add(number)
        for row, seen in ((-2, used[0]), (-1, used[1])):
            self._loose[row] = [chain for n, chain in enumerate(self._loose[row]) if n not in seen]
        for chain in self._chains[len(self._chains) - len(used[0]) :]:
            self._look_back(chain)
        return [chain for k, chain in enumerate(free) if k not in used[2]]

    def _triples(self, free: Sequence[Chain]) -> list[tuple[float, int, int, int]]:
        """Chance, and numbers of the first, second and third detection."""
        rows = (self._loose[-2], self._loose[-1], free)
        if not all(rows):
            return []
        first, middle, last = (np.stack([chain.path[-1] for chain in row]) for row in rows)
        steps = middle[None] - first[:, None]
        speeds = np.linalg.norm(steps, axis=-1)
        errors = np.linalg.norm((middle[None] + steps)[:, :, None] - last, axis=-1)
        slack = [self._slack(chain.last) for chain in rows[1]]
        allowed = np.maximum(self._config.tolerance * speeds, slack)[..., None]
        fast = (speeds >= self._min_speed) & (speeds <= self._config.max_speed_fraction * self._side)
        limit = math.log(self._config.max_start_ratio)
        return [
            (chance, i, j, k)
            for i, j, k in np.argwhere(fast[..., None] & (errors < allowed)).tolist()
            if _difference(rows[0][i].last, rows[1][j].last) < limit
            and _difference(rows[1][j].last, rows[2][k].last) < limit
            and (chance := _chance(rows[0][i], rows[1][j], rows[2][k])) < self._config.max_start_chance
        ]

    def _look_back(self, chain: Chain) -> None:
        """Add detections of the frames before the first, which fitted no steady motion by themselves."""
        for row in range(-3, -_HISTORY - 1, -1):
            expected = 2 * chain.path[0] - chain.path[1]
            speed = float(np.linalg.norm(chain.path[1] - chain.path[0]))
            allowed = max(self._config.tolerance * speed, self._slack(chain.detections[0]))
            candidates = [
                (float(np.linalg.norm(other.path[-1] - expected)), n)
                for n, other in enumerate(self._loose[row])
                if _difference(other.last, chain.detections[0]) < math.log(self._config.max_ratio)
            ]
            distance, number = min(candidates, default=(math.inf, 0))
            if distance >= allowed:
                return
            chain.prepend(self._loose[row].pop(number))

    def _close(self, chains: Iterable[Chain]) -> None:
        for chain in chains:
            del chain.background[len(chain.detections) - 1 :]
            self._finished += chain.fast_parts(self._config.motion, self._min_speed)


def _chance(first: Chain, middle: Chain, last: Chain) -> float:
    """Logarithm of the probability by chance of a chain of three."""
    chain = first.copy()
    chain.append(middle)
    chain.append(last)
    return chain.log_chance


def _difference(a: Detection, b: Detection) -> float:
    """Logarithm of the ratio of areas, or less of contrasts, which depend on the background as well."""
    return max(abs(math.log(a.area / b.area)), 0.6 * abs(math.log(a.contrast / b.contrast)))


def _covers(detection: Detection, chain: Chain) -> bool:
    """Whether a detection larger than the mover is where it is expected."""
    (x, y), box = chain.predicted(), detection.box
    return detection.area > chain.last.area and box.left <= x < box.right and box.top <= y < box.bottom


def _greedy(pairs: Iterable[tuple[float, int, int]]) -> Iterable[tuple[int, int]]:
    """Cheapest pairs first, each number once."""
    left: set[int] = set()
    right: set[int] = set()
    for _, i, j in sorted(pairs):
        if i not in left and j not in right:
            left.add(i)
            right.add(j)
            yield i, j
