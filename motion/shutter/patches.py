"""Motion patches: input of the shutter network, resampled along the motion.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from freezeframe.data.types import Flow
from freezeframe.models.deblur.shutter_net import FRAMES, PER_INTERVAL, SIDE
from freezeframe.motion.flow.estimators import gamma_luma
from freezeframe.motion.flow.velocity import estimate_velocities

from .spectra import select_textured_points

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchConfig:
    """Selection and normalisation of the patches."""

    max_patches: int = 64  # per frame
    min_patches: int = 20  # per frame; fewer give none
    min_speed: float = 1.5  # pixels per frame interval; below, no shutter leaves a visible blur
    min_confidence: float = 0.3  # of the velocity at the centre
    min_moving_pixels: int = 200  # per frame
    levels: int = 3  # of the image pyramid
    contrast_floor: float = 0.01  # gamma-coded standard deviation added to that of a patch
    max_feature: float = 4.0  # absolute value at which features are clipped


_DEFAULT = PatchConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionPatches:
    """Patches of one frame."""

    pixels: Tensor  # [N, 3, 32, 32] previous, current and next frame; mean 0, standard deviation about 1
    features: Tensor  # [N, 4] see `models.deblur.shutter_net.NUM_FEATURES`


def extract_patches(
    images: Tensor,
    flows: Mapping[tuple[int, int], Flow],
    *,
    velocities: tuple[Tensor, Tensor] | None = None,
    seed: int = 0,
    config: PatchConfig = _DEFAULT,
) -> list[MotionPatches]:
    """Patches of each frame that has two neighbours and enough motion.

    Args:
        images: [T, 3, H, W] linear RGB, consecutive frames.
        flows: (i, j): flow from frame i to frame j, for neighbours i and j.
        velocities: Those of `estimate_velocities`, if they are known.
        seed: Of the random choice among textured points.
        config: Selection and normalisation.
    """
    if len(images) < FRAMES:
        return []
    velocity, confidence = velocities or estimate_velocities(flows, len(images))
    pyramids = [_pyramid(gamma_luma(image).detach().cpu().numpy()) for image in images]
    fields = velocity.permute(0, 2, 3, 1).detach().cpu().numpy()
    patches = []
    for i in range(1, len(images) - 1):
        weight = confidence[i].detach().cpu().numpy()
        points = _select_points(pyramids[i][0], fields[i], weight, seed=seed + i, config=config)
        if len(points) >= config.min_patches:
            displacements = [
                _sample_nearest(flows[i, j].uv.permute(1, 2, 0).cpu().numpy(), points) for j in (i - 1, i + 1)
            ]
            window = slice(i - 1, i + 2)
            patches.append(_cut_patches(pyramids[window], fields[window], points, displacements, config))
    return patches


def _select_points(luma: Array, field: Array, confidence: Array, *, seed: int, config: PatchConfig) -> Array:
    """[N, 2] columns and rows of at most `config.max_patches` textured points in motion."""
    speed = np.hypot(field[..., 0], field[..., 1])
    moving = (speed > config.min_speed) & (confidence > config.min_confidence)
    if moving.sum() < config.min_moving_pixels:
        return np.zeros((0, 2), int)
    margin = int(np.clip(2 * np.percentile(speed[moving], 75), 12, 48))
    rows, columns = select_textured_points(luma, moving, margin)
    order = np.random.default_rng(seed).permutation(len(rows))[: config.max_patches]
    return np.stack([columns[order], rows[order]], axis=1)


def _cut_patches(
    pyramids: Sequence[list[Array]],
    fields: Array,
    points: Array,
    displacements: Sequence[Array],
    config: PatchConfig,
) -> MotionPatches:
    """Patches at `points` of the middle of three frames, and at `points` + `displacements` of the others."""
    centre_velocity = _sample_nearest(fields[1], points)
    speed = np.hypot(centre_velocity[:, 0], centre_velocity[:, 1])
    direction = centre_velocity / speed[:, None]
    x, y = _patch_grid(direction, speed / PER_INTERVAL)
    # Steps of several pixels sample a smaller level, to avoid aliasing.
    level = np.clip(np.floor(np.log2(speed / PER_INTERVAL) + 1e-6), 0, config.levels - 1).astype(int)
    patch = np.zeros((len(points), FRAMES, SIDE, SIDE), np.float32)
    speeds = []
    for k, uv in enumerate((displacements[0], np.zeros_like(displacements[0]), displacements[1])):
        centre = points + uv
        for octave in range(config.levels):
            selected = level == octave
            if selected.any():
                at = centre[selected][:, :, None, None]
                patch[selected, k] = _sample_level(
                    pyramids[k][octave], at[:, 0] + x[selected], at[:, 1] + y[selected], 2**octave
                )
        speeds.append((_sample_nearest(fields[k], centre) * direction).sum(1) / speed)
    return _normalise(patch, speed, speeds, config)


def _patch_grid(direction: Array, step: Array) -> tuple[Array, Array]:
    """Columns and rows, [N, S, S] pixels from the centre, of patches with rows along `direction`."""
    grid = (np.arange(SIDE) - (SIDE - 1) / 2) * step[:, None]
    x = grid[:, None, :] * direction[:, :1, None] - grid[:, :, None] * direction[:, 1:, None]
    y = grid[:, None, :] * direction[:, 1:, None] + grid[:, :, None] * direction[:, :1, None]
    return x, y


def _normalise(patch: Array, speed: Array, speeds: Sequence[Array], config: PatchConfig) -> MotionPatches:
    mean = patch.mean((1, 2, 3), keepdims=True)
    contrast = patch.std((1, 2, 3), keepdims=True)
    log_contrast = np.log(contrast[:, 0, 0, 0] + config.contrast_floor / 10)
    features = np.stack([np.log2(speed) - 3, log_contrast + 2.5, speeds[0] - 1, speeds[2] - 1], axis=1)
    limit = config.max_feature
    return MotionPatches(
        pixels=torch.from_numpy((patch - mean) / (contrast + config.contrast_floor)),
        features=torch.from_numpy(features.clip(-limit, limit).astype(np.float32)),
    )


def _pyramid(luma: Array) -> list[Array]:
    sizes = ([max(1, round(side * scale)) for side in luma.shape[::-1]] for scale in (0.5, 0.25))
    return [luma, *(np.asarray(cv2.resize(luma, size, interpolation=cv2.INTER_AREA)) for size in sizes)]


def _sample_level(luma: Array, x: Array, y: Array, scale: int) -> Array:
    """[N, S, S] luma at full-size coordinates, from a pyramid level that is `scale` times smaller."""
    column, row = (((at + 0.5) / scale - 0.5).astype(np.float32).reshape(-1, SIDE) for at in (x, y))
    sampled = cv2.remap(luma, column, row, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(sampled).reshape(x.shape)


def _sample_nearest(field: Array, points: Array) -> Array:
    """[N, 2] vectors of a field [H, W, 2] at the pixels nearest to `points`."""
    height, width = field.shape[:2]
    columns, rows = np.round(points).astype(int).T
    return np.asarray(field[rows.clip(0, height - 1), columns.clip(0, width - 1)])
