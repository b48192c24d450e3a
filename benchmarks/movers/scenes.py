"""Clips of small fast movers, and of sharp motion that must stay as it is.

A clip is a deterministic function of its case and its seed. The time of frame i is i.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from freezeframe.data.srgb import srgb_to_linear
from freezeframe.data.synthesis.degradations.camera_isp import Camera, record_clip
from freezeframe.data.synthesis.scene2d.patterns import Generator

from . import fast, negatives
from .shot import Shot

MIN_COVERAGE = 0.02  # of a pixel by a mover, at any time of the exposure
_BASE_SEED = 77_000  # apart from the seeds of training and of the demo

MOVER_CASES: dict[str, Callable[[Generator], Shot]] = {
    "compact_still": fast.compact_still,
    "compact_pan": fast.compact_pan,
    "compact_shake": fast.compact_shake,
    "occluded": fast.occluded,
    "runner_still": fast.runner_still,
    "ball_three_diameters": fast.ball_three_diameters,
}
NEGATIVE_CASES: dict[str, Callable[[Generator], Shot]] = {
    "sharp_still": negatives.sharp_still,
    "crowd": negatives.crowd,
    "trees": negatives.trees,
    "water": negatives.water,
    "scrolling_text": negatives.scrolling_text,
    "flashing": negatives.flashing,
    "slow_walker": negatives.slow_walker,
}
CASES = MOVER_CASES | NEGATIVE_CASES


@dataclass(frozen=True, slots=True, kw_only=True)
class MoverClip:
    """A recorded clip and its ground truth."""

    name: str
    case: str
    frames: list[Tensor]  # [3, H, W] linear RGB each: blurred, noisy, quantised to 8 bits
    sharp: list[Tensor]  # [3, H, W] linear RGB each: latent image at the middle of the exposure, no noise
    masks: list[Tensor]  # [H, W] bool each: what the movers cover at any time of the exposure
    shutter: float  # exposure time over frame interval


def mover_clip(case: str, seed: int) -> MoverClip:
    """The clip of a case and a seed.

    Raises:
        ValueError: There is no such case.
    """
    shot, rng = draw_shot(case, seed)
    return record(shot, rng, name=f"{case}_{seed:02d}", case=case)


def record(shot: Shot, rng: Generator, *, name: str, case: str) -> MoverClip:
    """Render a shot, and record it by a camera with little noise."""
    exposures = [exposure(shot, i) for i in range(shot.frames)]
    camera = Camera(shot=float(10 ** rng.uniform(-4.3, -3.4)), read=float(10 ** rng.uniform(-3.3, -2.8)))
    recorded = record_clip(exposures, camera, seed=int(rng.integers(2**31)))
    return MoverClip(
        name=name,
        case=case,
        frames=[srgb_to_linear(frame) for frame in recorded],
        sharp=[latent(shot, i) for i in range(shot.frames)],
        masks=[mover_mask(shot, i) for i in range(shot.frames)],
        shutter=shot.shutter,
    )


def draw_shot(case: str, seed: int) -> tuple[Shot, Generator]:
    """The scene of a clip, and the generator for its noise."""
    if case not in CASES:
        raise ValueError(f"there is no case {case}; choose one of {', '.join(CASES)}")
    rng = np.random.default_rng([_BASE_SEED + seed, zlib.crc32(case.encode())])
    return CASES[case](rng), rng


def exposure(shot: Shot, frame: int) -> Tensor:
    """[3, H, W] linear RGB without noise."""
    return shot.light(frame, shot.scene.blurred(frame, shutter=shot.shutter))


def latent(shot: Shot, frame: int) -> Tensor:
    """[3, H, W] linear RGB at the middle of the exposure."""
    return shot.light(frame, shot.scene.sharp(frame))


def mover_mask(shot: Shot, frame: int) -> Tensor:
    """[H, W] bool: coverage by movers exceeds `MIN_COVERAGE` at any time of the exposure; else all."""
    if shot.whole_frame:
        return torch.ones(shot.scene.size, dtype=torch.bool)
    return shot.scene.swept_movers(frame, shutter=shot.shutter) > MIN_COVERAGE
