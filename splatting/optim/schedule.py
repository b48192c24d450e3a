"""How a fit is worked through: first the scene, then the camera, then both, at last the scene alone.

The order is UPGS' (Bui et al. 2025), from coarse to fine as in BAD-Gaussians (Zhao et al. 2024).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

ParameterName = Literal[
    "scene", "knots", "exposure_offset", "shutter_logit", "control_points", "subframe_logits", "gain", "bias"
]

SCENE: frozenset[ParameterName] = frozenset({"scene"})
EXPOSURE_OFFSET: frozenset[ParameterName] = frozenset({"exposure_offset"})
SHUTTER: frozenset[ParameterName] = frozenset({"shutter_logit"})
NONE: frozenset[ParameterName] = frozenset()
POSES: frozenset[ParameterName] = frozenset({"knots", "control_points", "subframe_logits", "gain", "bias"})

MIN_SIDE_PX = 90  # pixels of the shorter side with which a fit begins

LEARNING_RATES: Mapping[str, float] = MappingProxyType(
    # Pixels, logits, and shares of light.
    {
        "knots": 0.15,
        "exposure_offset": 0.15,
        "control_points": 0.15,
        "shutter_logit": 0.03,
        "subframe_logits": 3e-3,
        "gain": 1e-3,
        "bias": 2e-4,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A stretch of the fit."""

    until: float  # progress at its end
    downscale: int  # pixels on a side that are one pixel of this stage
    trainable: frozenset[ParameterName]
    blurred: bool = True  # False looks at the middle of each exposure only


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The stages, and what weighs how much."""

    phases: tuple[Phase, ...]
    steps: int
    budget: float = math.inf  # seconds; the stages are shortened to fit
    frames: int = 2  # of a step
    offset_weight: float = 1e-6  # weight of the prior on what leaves the spline
    temporal_tv: float = (
        0.0  # weight of changes between moments; a hundredth of it at the end (DeblurGS, eq. 9)
    )
    prior_weight: float = 0.0  # weight of the restorer's word at the beginning; a quarter of it at the end
    learning_rates: Mapping[str, float] = field(default_factory=lambda: LEARNING_RATES)
    final_lr_ratio: float = 0.05  # share of its first rate that everything ends with

    def phase_at(self, progress: float) -> Phase:
        """The stage that a share of the work belongs to."""
        return next((phase for phase in self.phases if progress < phase.until), self.phases[-1])

    def prior_weight_at(self, progress: float) -> float:
        """Weight of the restorer's word."""
        weight: float = self.prior_weight * 0.25**progress
        return weight

    def temporal_tv_at(self, progress: float) -> float:
        """Weight of changes between moments."""
        weight: float = self.temporal_tv * 0.01**progress
        return weight

    def lr_scale_at(self, progress: float) -> float:
        """Share of the first learning rates."""
        share: float = self.final_lr_ratio**progress
        return share


def build_schedule(  # noqa: PLR0913
    size: Sequence[int],
    *,
    steps: int,
    budget: float = math.inf,
    shared: bool = False,
    shutter_known: bool = False,
    blurred: bool = True,
    prior_weight: float = 0.0,
) -> Schedule:
    """The usual plan.

    Args:
        size: Height and width of the frames in pixels.
        steps: Of the optimiser.
        budget: Seconds.
        shared: The blur of each frame follows from the way to its neighbours alone.
        shutter_known: The shutter fraction stays as it is. On a steady pan it must: a blurred scene before a
            shutter that never opens explains the footage as well.
        blurred: False fits as if every exposure were a moment, for comparison.
        prior_weight: Weight of the restorer's word at the beginning.
    """
    pose_parameters: frozenset[ParameterName] = (
        POSES | (NONE if shared else EXPOSURE_OFFSET) | (NONE if shutter_known else SHUTTER)
    )
    first, *rest = _downscales(size)
    coarse = [first, *rest[:-1]] if rest else []
    spans = [0.1 + 0.4 * (k + 1) / max(len(coarse), 1) for k in range(len(coarse))]
    both = SCENE | pose_parameters
    phases = (
        Phase(until=0.1, downscale=first, trainable=SCENE, blurred=blurred),
        *(
            Phase(until=u, downscale=k, trainable=both, blurred=blurred)
            for u, k in zip(spans, coarse, strict=True)
        ),
        Phase(until=0.85, downscale=1, trainable=both, blurred=blurred),
        Phase(until=1.0, downscale=1, trainable=SCENE, blurred=blurred),
    )
    return Schedule(phases=phases, steps=steps, budget=budget, prior_weight=prior_weight)


def _downscales(size: Sequence[int]) -> list[int]:
    """Halvings of the frames, the smallest first."""
    halvings = max(0, int(math.log2(min(size) / MIN_SIDE_PX)))
    return [2**k for k in range(halvings, -1, -1)]
