"""Initial scene and initial motion of a fit.

The mean of blurred frames is a blurred scene, which a static camera explains. The initial scene is therefore
backprojected mostly from the sharpest frames, and the motion of each exposure starts at the best of a grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from freezeframe.splatting.camera.trajectory import SplineTrajectory

from .losses import photometric, sqrt_encode
from .optimizer import Fit


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionSearchConfig:
    """Grid of candidate motions."""

    lengths_px: tuple[float, ...] = (0.0, 1.5, 3.0, 5.0, 7.5, 10.5, 14.0, 18.5, 24.0)
    directions: int = 8  # over half a circle: opposite motions give the same blur


def sharpness(images: Tensor, weights: Tensor) -> Tensor:
    """[T] mean squared gradient of the square-root-encoded images [T, 3, H, W], weighted by [T, H, W]."""
    encoded = sqrt_encode(images).mean(1)
    dx, dy = encoded.diff(dim=2)[:, 1:], encoded.diff(dim=1)[:, :, 1:]
    mask = weights[:, 1:, 1:]
    return ((dx.square() + dy.square()) * mask).sum((1, 2)) / mask.sum((1, 2)).clamp_min(1)


def lucky_imaging_weights(images: Tensor, weights: Tensor, *, exponent: float = 8.0) -> Tensor:
    """[T, H, W] weights of backprojection that favour the sharpest frames (Fried 1978).

    Takes no gradient.

    Args:
        images: [T, 3, H, W] linear RGB.
        weights: [T, H, W] in [0, 1].
        exponent: Of the sharpness; at 8, a frame that is a tenth sharper has about twice the weight.
    """
    sharp = sharpness(images, weights)
    relative_sharpness = (sharp / sharp.max().clamp_min(1e-12)) ** exponent
    # Other frames fill the pixels outside the sharpest ones.
    return weights * relative_sharpness.clamp_min(1e-4)[:, None, None]


@torch.no_grad()
def search_exposure_motion(
    fit: Fit, trajectory: SplineTrajectory, *, config: MotionSearchConfig = MotionSearchConfig()
) -> None:
    """Set the linear offset of each exposure to the candidate of least photometric error.

    Candidates are rotations at a constant rate. Their sign is that of the motion along the spline.
    """
    for frame in range(len(fit.observations)):
        nominal_motion = trajectory.spline_motion(frame)
        scored_motions = [
            (_photometric_error(fit, trajectory, frame, motion - nominal_motion), motion)
            for motion in _motion_candidates(nominal_motion, config)
        ]
        _, best = min(scored_motions, key=lambda scored: scored[0])
        trajectory.exposure_offset[frame, 0, :2] = best - nominal_motion


def _motion_candidates(nominal_motion: Tensor, config: MotionSearchConfig) -> Sequence[Tensor]:
    """Motions [2] in pixels per exposure, within 90 degrees of the nominal motion."""
    angles = [math.pi * k / config.directions for k in range(config.directions)]
    motions = [
        nominal_motion.new_tensor([math.cos(a), math.sin(a)]) * length
        for a in angles
        for length in config.lengths_px
    ]
    return [
        nominal_motion,
        *(motion if float(motion @ nominal_motion) >= 0 else -motion for motion in motions),
    ]


def _photometric_error(fit: Fit, trajectory: SplineTrajectory, frame: int, exposure_offset: Tensor) -> float:
    saved_offset = trajectory.exposure_offset[frame, 0, :2].clone()
    trajectory.exposure_offset[frame, 0, :2] = exposure_offset
    rendered = fit.reblur(frame)[None]
    trajectory.exposure_offset[frame, 0, :2] = saved_offset
    part = slice(frame, frame + 1)
    return float(photometric(rendered, fit.level.images[part], fit.level.weights[part]))
