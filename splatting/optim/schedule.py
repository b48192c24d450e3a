"""How a fit is worked through: first the scene, then the camera, then both, at last the scene alone.

The order is UPGS' (Bui et al. 2025), from coarse to fine as in BAD-Gaussians (Zhao et al. 2024).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Free = Literal["scene", "knots", "sway", "openness", "controls", "places", "gain", "bias"]

SCENE: frozenset[Free] = frozenset({"scene"})
SWAY: frozenset[Free] = frozenset({"sway"})
SHUTTER: frozenset[Free] = frozenset({"openness"})
NONE: frozenset[Free] = frozenset()
POSES: frozenset[Free] = frozenset({"knots", "controls", "places", "gain", "bias"})

SMALLEST = 90  # pixels of the shorter side with which a fit begins

RATES: Mapping[str, float] = MappingProxyType(
    # Pixels, logits, and shares of light.
    {
        "knots": 0.15,
        "sway": 0.15,
        "controls": 0.15,
        "openness": 0.03,
        "places": 3e-3,
        "gain": 1e-3,
        "bias": 2e-4,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stretch of the fit."""

    until: float  # progress at its end
    shrink: int  # pixels on a side that are one pixel of this stage
    free: frozenset[Free]
    blurred: bool = True  # False looks at the middle of each exposure only


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The stages, and what weighs how much."""

    stages: tuple[Stage, ...]
    steps: int
    budget: float = math.inf  # seconds; the stages are shortened to fit
    frames: int = 2  # of a step
    sway: float = 1e-6  # weight of the prior on what leaves the spline
    calm: float = 0.0  # weight of changes between moments; a hundredth of it at the end (DeblurGS, eq. 9)
    trust: float = 0.0  # weight of the restorer's word at the beginning; a quarter of it at the end
    rates: Mapping[str, float] = field(default_factory=lambda: RATES)
    slow: float = 0.05  # share of its first rate that everything ends with

    def stage_at(self, progress: float) -> Stage:
        """The stage that a share of the work belongs to."""
        return next((stage for stage in self.stages if progress < stage.until), self.stages[-1])

    def trust_at(self, progress: float) -> float:
        """Weight of the restorer's word."""
        weight: float = self.trust * 0.25**progress
        return weight

    def calm_at(self, progress: float) -> float:
        """Weight of changes between moments."""
        weight: float = self.calm * 0.01**progress
        return weight

    def slowed(self, progress: float) -> float:
        """Share of the first learning rates."""
        share: float = self.slow**progress
        return share


def plan(  # noqa: PLR0913
    size: Sequence[int],
    *,
    steps: int,
    budget: float = math.inf,
    tied: bool = False,
    shutter_known: bool = False,
    blurred: bool = True,
    trust: float = 0.0,
) -> Plan:
    """The usual plan.

    Args:
        size: Height and width of the frames in pixels.
        steps: Of the optimiser.
        budget: Seconds.
        tied: The blur of each frame follows from the way to its neighbours alone.
        shutter_known: The shutter fraction stays as it is. On a steady pan it must: a blurred scene before a
            shutter that never opens explains the footage as well.
        blurred: False fits as if every exposure were a moment, for comparison.
        trust: Weight of the restorer's word at the beginning.
    """
    freed: frozenset[Free] = POSES | (NONE if tied else SWAY) | (NONE if shutter_known else SHUTTER)
    first, *rest = _shrinks(size)
    coarse = [first, *rest[:-1]] if rest else []
    spans = [0.1 + 0.4 * (k + 1) / max(len(coarse), 1) for k in range(len(coarse))]
    both = SCENE | freed
    stages = (
        Stage(until=0.1, shrink=first, free=SCENE, blurred=blurred),
        *(Stage(until=u, shrink=k, free=both, blurred=blurred) for u, k in zip(spans, coarse, strict=True)),
        Stage(until=0.85, shrink=1, free=both, blurred=blurred),
        Stage(until=1.0, shrink=1, free=SCENE, blurred=blurred),
    )
    return Plan(stages=stages, steps=steps, budget=budget, trust=trust)


def _shrinks(size: Sequence[int]) -> list[int]:
    """Halvings of the frames, the smallest first."""
    halvings = max(0, int(math.log2(min(size) / SMALLEST)))
    return [2**k for k in range(halvings, -1, -1)]
