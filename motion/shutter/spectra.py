"""Power spectra of an image along and across its motion: where an open shutter leaves its mark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_MAX_PROFILES = 3000  # profiles per frame
_MIN_SPEED = 3.0  # pixels per frame; below, no shutter leaves a mark within reach
_MIN_PROFILES = 200  # profiles, fewer tell nothing
_MIN_ENERGY = 1e-9  # squared slope of a wall without grain
_GROUPS = 6  # of points of like speed
_SPEED_QUANTILES = np.array([0.1, 0.3, 0.5, 0.7, 0.9])  # quantiles that stand for the speeds of a group


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectra:
    """Mean power of many short profiles through points of like speed."""

    speeds: Array  # [5] pixels per frame: quantiles of the points' speeds
    parallel: Array  # [F] power along the motion
    perpendicular: Array  # [F] power across it, which no motion blur touches
    count: int  # profiles
    length: int  # steps of a profile; frequency k is k / length cycles per pixel


def motion_spectra(luminance: Array, velocity: Array, confidence: Array) -> list[Spectra]:
    """Spectra of one frame, one for each group of points of like speed; none where too little moves.

    Args:
        luminance: [H, W] linear brightness.
        velocity: [H, W, 2] pixels per frame.
        confidence: [H, W] in [0, 1]: where the velocity is right and steady.
    """
    speed = np.hypot(velocity[..., 0], velocity[..., 1])
    moving = (speed > _MIN_SPEED) & (confidence > 0.3)
    if moving.sum() < _MIN_PROFILES:
        return []
    half_length = int(np.clip(1.5 * np.percentile(speed[moving], 75), 16, 48))
    rows, columns = select_textured_points(luminance, moving, half_length)
    if len(rows) < _MIN_PROFILES:
        return []
    points, steps = np.stack((columns, rows), axis=-1), velocity[rows, columns]
    steps = steps / speed[rows, columns, None]
    parallel = _power(_profiles(luminance, points, steps, half_length))
    perpendicular = _power(_profiles(luminance, points, steps[:, ::-1] * np.array([-1, 1]), half_length))
    return _group_by_speed(speed[rows, columns], parallel, perpendicular, 2 * half_length)


def select_textured_points(luminance: Array, moving: Array, half_length: int) -> tuple[Array, Array]:
    """Rows and columns of up to `_MAX_PROFILES` moving points in the livelier half of the picture."""
    margin = min(half_length // 2 + 4, min(luminance.shape) // 4)
    inner = np.zeros_like(moving)
    inner[margin:-margin, margin:-margin] = True
    candidates = np.flatnonzero(moving & inner)
    random = np.random.default_rng(0)
    candidates = random.choice(candidates, min(len(candidates), 3 * _MAX_PROFILES), replace=False)
    slopes = cv2.Sobel(luminance, cv2.CV_32F, 1, 0) ** 2 + cv2.Sobel(luminance, cv2.CV_32F, 0, 1) ** 2
    texture_energy = cv2.GaussianBlur(slopes, (0, 0), 6).ravel()[candidates]
    by_energy = np.argsort(-texture_energy)[: max(_MIN_PROFILES, len(candidates) // 2)]
    chosen = candidates[by_energy[texture_energy[by_energy] > _MIN_ENERGY]][:_MAX_PROFILES]
    rows, columns = np.unravel_index(chosen, luminance.shape)
    return rows, columns


def _profiles(luminance: Array, points: Array, steps: Array, half_length: int) -> Array:
    """[N, 2 reach + 1] brightness on straight lines through `points`, a pixel apart."""
    offsets = np.arange(-half_length, half_length + 1)
    x = (points[:, :1] + steps[:, :1] * offsets).astype(np.float32)
    y = (points[:, 1:] + steps[:, 1:] * offsets).astype(np.float32)
    profile = cv2.remap(
        luminance.astype(np.float32), x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.asarray(profile)


def _power(profiles: Array) -> Array:
    """Periodograms of the steps from pixel to pixel, through a Hann window.

    Steps, because scenes fall off as 1 / f^2: their low frequencies would leak through any window.
    """
    steps = np.diff(profiles, axis=1)
    window = np.hanning(steps.shape[1] + 2)[1:-1]
    level = steps - (steps @ window)[:, None] / window.sum()
    return np.asarray(np.abs(np.fft.rfft(level * window)) ** 2 / (window @ window))


def _group_by_speed(speed: Array, parallel: Array, perpendicular: Array, length: int) -> list[Spectra]:
    energy = (parallel + perpendicular)[:, 1:].sum(1)
    # A few strong edges must not outshout a field of grass; noise alone must not shout at all.
    weight = (1 / (energy + np.median(energy) + 1e-12))[:, None]
    order = np.array_split(np.argsort(speed), _GROUPS)
    return [
        Spectra(
            speeds=np.quantile(speed[group], _SPEED_QUANTILES),
            parallel=(parallel[group] * weight[group]).mean(0),
            perpendicular=(perpendicular[group] * weight[group]).mean(0),
            count=len(group),
            length=length,
        )
        for group in order
    ]
