"""Squares cut out of a frame and its neighbours along the motion: what `models.deblur.shutter_net` sees.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
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

MAX_PATCHES = 64  # squares of a frame
_MIN_SPEED = 1.5  # pixels per frame; below, no shutter leaves a mark
_MIN_CONFIDENCE = 0.3  # belief in the velocity of a square's middle
_MIN_MOVING_PIXELS, _MIN_PATCHES = 200, 20  # pixels that must move, and squares that must be found
_LEVELS = 3  # of pictures, each half as large: a step of many pixels reads a small one
_CONTRAST_FLOOR = 0.01  # contrast that flat squares are lifted to
_MAX_FEATURE = 4.0  # facts beyond mean no more


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionPatches:
    """Squares of one frame."""

    pixels: Tensor  # [N, 3, 32, 32] before, now, after; mean 0, contrast about 1
    features: Tensor  # [N, 4] see `models.shutter.FACTS`


def extract_patches(
    images: Tensor, flows: Mapping[tuple[int, int], Flow], *, seed: int = 0
) -> list[MotionPatches]:
    """Squares of every frame that has neighbours on both sides and enough motion to tell of.

    Args:
        images: [T, 3, H, W] linear RGB, consecutive frames.
        flows: (i, j): frame i found in frame j, for neighbours i and j.
        seed: Chooses among the textured places.
    """
    if len(images) < FRAMES:
        return []
    velocity, confidence = estimate_velocities(flows, len(images))
    pyramids = [_pyramid(gamma_luma(image).detach().cpu().numpy()) for image in images]
    fields = velocity.permute(0, 2, 3, 1).detach().cpu().numpy()
    patches = []
    for i in range(1, len(images) - 1):
        points = _select_points(
            pyramids[i][0], fields[i], confidence[i].detach().cpu().numpy(), seed=seed + i
        )
        if len(points) >= _MIN_PATCHES:
            displacements = [
                _sample_nearest(flows[i, j].uv.permute(1, 2, 0).cpu().numpy(), points) for j in (i - 1, i + 1)
            ]
            window = slice(i - 1, i + 2)
            patches.append(_cut_patches(pyramids[window], fields[window], points, displacements))
    return patches


def _select_points(luma: Array, field: Array, confidence: Array, *, seed: int) -> Array:
    """[N, 2] columns and rows of up to `MAX_PATCHES` textured points in motion."""
    speed = np.hypot(field[..., 0], field[..., 1])
    moving = (speed > _MIN_SPEED) & (confidence > _MIN_CONFIDENCE)
    if moving.sum() < _MIN_MOVING_PIXELS:
        return np.zeros((0, 2), int)
    margin = int(np.clip(2 * np.percentile(speed[moving], 75), 12, 48))
    rows, columns = select_textured_points(luma, moving, margin)
    chosen = np.random.default_rng(seed).permutation(len(rows))[:MAX_PATCHES]
    return np.stack([columns[chosen], rows[chosen]], axis=1)


def _cut_patches(
    pyramids: list[list[Array]], fields: Array, points: Array, displacements: list[Array]
) -> MotionPatches:
    """The squares at `points` of the middle frame of three, and where `displacements` find them in the others."""
    centre_velocity = _sample_nearest(fields[1], points)
    speed = np.hypot(centre_velocity[:, 0], centre_velocity[:, 1])
    direction = centre_velocity / speed[:, None]
    step = speed / PER_INTERVAL
    grid = (np.arange(SIDE) - (SIDE - 1) / 2) * step[:, None]
    x = grid[:, None, :] * direction[:, :1, None] - grid[:, :, None] * direction[:, 1:, None]
    y = grid[:, None, :] * direction[:, 1:, None] + grid[:, :, None] * direction[:, :1, None]
    level = np.clip(np.floor(np.log2(step) + 1e-6), 0, _LEVELS - 1).astype(int)
    patch = np.zeros((len(points), FRAMES, SIDE, SIDE), np.float32)
    speeds = []
    for k, uv in enumerate((displacements[0], np.zeros_like(displacements[0]), displacements[1])):
        middle = points + uv
        for octave in range(_LEVELS):
            selected = level == octave
            if selected.any():
                at = middle[selected][:, :, None, None]
                patch[selected, k] = _read(
                    pyramids[k][octave], at[:, 0] + x[selected], at[:, 1] + y[selected], 2**octave
                )
        speeds.append((_sample_nearest(fields[k], middle) * direction).sum(1) / speed)
    mean = patch.mean((1, 2, 3), keepdims=True)
    contrast = patch.std((1, 2, 3), keepdims=True)
    features = np.stack(
        [
            np.log2(speed) - 3, np.log(contrast[:, 0, 0, 0] + _CONTRAST_FLOOR / 10) + 2.5, speeds[0] - 1, speeds[2] - 1
        ],
        axis=1,
    )  # fmt: skip
    return MotionPatches(
        pixels=torch.from_numpy((patch - mean) / (contrast + _CONTRAST_FLOOR)),
        features=torch.from_numpy(features.clip(-_MAX_FEATURE, _MAX_FEATURE).astype(np.float32)),
    )


def _pyramid(luma: Array) -> list[Array]:
    sizes = ([max(1, round(side * part)) for side in luma.shape[::-1]] for part in (0.5, 0.25))
    return [luma, *(np.asarray(cv2.resize(luma, size, interpolation=cv2.INTER_AREA)) for size in sizes)]


def _read(luma: Array, x: Array, y: Array, scale: int) -> Array:
    """[N, S, S] brightness at coordinates of the whole picture, read from one `scale` times smaller."""
    column, row = (((at + 0.5) / scale - 0.5).astype(np.float32).reshape(-1, SIDE) for at in (x, y))
    read = cv2.remap(luma, column, row, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(read).reshape(x.shape)


def _sample_nearest(field: Array, points: Array) -> Array:
    """[N, 2] of a field [H, W, 2] at the pixels nearest to `points`."""
    height, width = field.shape[:2]
    columns, rows = np.round(points).astype(int).T
    return np.asarray(field[rows.clip(0, height - 1), columns.clip(0, width - 1)])
