"""Where a fit begins: near enough to the answer that walking downhill finds it.

A mean of blurred frames is a blurred scene, and a camera at rest explains that well: so the first scene is
painted from the sharpest frames, and each exposure's own motion is first looked for, not walked to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from freezeframe.splatting.camera.trajectory import SplineTrajectory

from .losses import photometric, sqrt_encode
from .optimizer import Fit

SHARPNESS_EXPONENT = 8.0  # exponent of a frame's sharpness: a tenth sharper counts twice
MAX_BLUR_PX = 24.0  # pixels of blur that are looked for
NUM_DIRECTIONS = 8  # of half a circle: an exposure looks the same from end to start


def sharpness(images: Tensor, weights: Tensor) -> Tensor:
    """[T] mean squared steps between neighbouring tones of [T, 3, H, W], where weights [T, H, W] are."""
    tone = sqrt_encode(images).mean(1)
    across, down = tone.diff(dim=2)[:, 1:], tone.diff(dim=1)[:, :, 1:]
    mask = weights[:, 1:, 1:]
    return ((across.square() + down.square()) * mask).sum((1, 2)) / mask.sum((1, 2)).clamp_min(1)


def lucky_imaging_weights(images: Tensor, weights: Tensor) -> Tensor:
    """[T, H, W] weights with which the sharpest frames paint, and others where those do not look.

    Takes no gradient.
    """
    sharp = sharpness(images, weights)
    relative_sharpness = (sharp / sharp.max().clamp_min(1e-12)) ** SHARPNESS_EXPONENT
    return weights * relative_sharpness.clamp_min(1e-4)[:, None, None]


@torch.no_grad()
def search_exposure_motion(fit: Fit, trajectory: SplineTrajectory) -> None:
    """Set each exposure's turn to the best of many, seen against the scene as it is now.

    The turn is straight and even; which way round is left to the spline.
    """
    for frame in range(len(fit.observations)):
        nominal_motion = trajectory.spline_motion(frame)
        scored_motions = [
            (_photometric_error(fit, trajectory, frame, motion - nominal_motion), motion)
            for motion in _motion_candidates(nominal_motion)
        ]
        _, best = min(scored_motions, key=lambda answer: answer[0])
        trajectory.exposure_offset[frame, 0, :2] = best - nominal_motion


def _motion_candidates(nominal_motion: Tensor) -> Sequence[Tensor]:
    """Turns, [2] pixels from opening to closing, on the own one's side of the circle."""
    lengths = [0.0, 1.5, 3.0, 5.0, 7.5, 10.5, 14.0, 18.5, MAX_BLUR_PX]
    angles = [math.pi * k / NUM_DIRECTIONS for k in range(NUM_DIRECTIONS)]
    motions = [
        nominal_motion.new_tensor([math.cos(a), math.sin(a)]) * length for a in angles for length in lengths
    ]
    return [
        nominal_motion,
        *(motion if float(motion @ nominal_motion) >= 0 else -motion for motion in motions),
    ]


def _photometric_error(fit: Fit, trajectory: SplineTrajectory, frame: int, exposure_offset: Tensor) -> float:
    saved_offset = trajectory.exposure_offset[frame, 0, :2].clone()
    trajectory.exposure_offset[frame, 0, :2] = exposure_offset
    rendered = fit.reblurred(frame)[None]
    trajectory.exposure_offset[frame, 0, :2] = saved_offset
    part = slice(frame, frame + 1)
    return float(photometric(rendered, fit.level.images[part], fit.level.weights[part]))
