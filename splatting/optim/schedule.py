"""Phases of a fit: the scene, then scene and camera from coarse to fine, at last the scene alone.

The order is that of UPGS (Bui et al. 2025), coarse to fine as in BAD-Gaussians (Zhao et al. 2024).
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

LEARNING_RATES: Mapping[str, float] = MappingProxyType(
    {
        "knots": 0.15,  # pixels
        "exposure_offset": 0.15,  # pixels
        "control_points": 0.15,  # pixels
        "shutter_logit": 0.03,  # logits
        "subframe_logits": 3e-3,  # logits
        "gain": 1e-3,  # log of linear values
        "bias": 2e-4,  # linear values
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A part of the fit with one resolution and one set of trainable parameters."""

    until: float  # progress at its end, [0, 1]
    downscale: int  # pixels of a frame on a side per pixel of this phase
    trainable: frozenset[ParameterName]
    blurred: bool = True  # False renders only the middle of each exposure


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Phases of a fit, learning rates, and weights of the regularisation."""

    phases: tuple[Phase, ...]
    steps: int
    budget: float = math.inf  # seconds; shortens the phases
    batch_size: int = 2  # frames per step
    offset_weight: float = 1e-6  # weight of the prior on the offsets from the spline
    temporal_tv: float = 0.0  # weight of changes between sub-frames; decays to 1/100 (DeblurGS, eq. 9)
    prior_weight: float = 0.0  # weight of the restored frames; decays to 1/4
    learning_rates: Mapping[str, float] = field(default_factory=lambda: LEARNING_RATES)
    final_lr_ratio: float = 0.05  # last learning rate over first

    def phase_at(self, progress: float) -> Phase:
        """The phase at a progress in [0, 1]."""
        return next((phase for phase in self.phases if progress < phase.until), self.phases[-1])

    def prior_weight_at(self, progress: float) -> float:
        """Weight of the restored frames."""
        weight: float = self.prior_weight * 0.25**progress
        return weight

    def temporal_tv_at(self, progress: float) -> float:
        """Weight of changes between sub-frames."""
        weight: float = self.temporal_tv * 0.01**progress
        return weight

    def lr_scale_at(self, progress: float) -> float:
        """Learning rate over first learning rate."""
        scale: float = self.final_lr_ratio**progress
        return scale


def build_schedule(
    size: Sequence[int],
    *,
    steps: int,
    shared: bool = False,
    shutter_known: bool = False,
    blurred: bool = True,
) -> Schedule:
    """The default schedule.

    Args:
        size: Height and width of the frames in pixels.
        steps: Optimiser steps.
        shared: Exposures have no offsets: their blur follows from the spline alone.
        shutter_known: Keep the shutter fraction. Required on a steady pan, which a blurred scene with a
            shutter fraction of 0 explains as well.
        blurred: False renders every exposure as one instant, for comparison.
    """
    pose_parameters: frozenset[ParameterName] = (
        POSES | (NONE if shared else EXPOSURE_OFFSET) | (NONE if shutter_known else SHUTTER)
    )
    first, *rest = _downscales(size)
    coarse = [first, *rest[:-1]] if rest else []
    ends = [0.1 + 0.4 * (k + 1) / max(len(coarse), 1) for k in range(len(coarse))]
    both = SCENE | pose_parameters
    phases = (
        Phase(until=0.1, downscale=first, trainable=SCENE, blurred=blurred),
        *(
            Phase(until=end, downscale=downscale, trainable=both, blurred=blurred)
            for end, downscale in zip(ends, coarse, strict=True)
        ),
        Phase(until=0.85, downscale=1, trainable=both, blurred=blurred),
        Phase(until=1.0, downscale=1, trainable=SCENE, blurred=blurred),
    )
    return Schedule(phases=phases, steps=steps)


def _downscales(size: Sequence[int], *, min_side_px: int = 90) -> list[int]:
    """Powers of two down to 1; the first leaves at least `min_side_px` pixels on the shorter side."""
    halvings = max(0, int(math.log2(min(size) / min_side_px)))
    return [2**k for k in range(halvings, -1, -1)]
