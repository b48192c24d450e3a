"""Power spectra of an image along and across its motion: where an open shutter leaves its mark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_POINTS = 3000  # profiles per frame
_SLOWEST = 3.0  # pixels per frame; below, no shutter leaves a mark within reach
_FEWEST = 200  # profiles, fewer tell nothing
_FLAT = 1e-9  # squared slope of a wall without grain
_GROUPS = 6  # of points of like speed
_SPEEDS = np.array([0.1, 0.3, 0.5, 0.7, 0.9])  # quantiles that stand for the speeds of a group


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectra:
    """Mean power of many short profiles through points of like speed."""

    speeds: Array  # [5] pixels per frame: quantiles of the points' speeds
    along: Array  # [F] power along the motion
    across: Array  # [F] power across it, which no motion blur touches
    count: int  # profiles
    length: int  # steps of a profile; frequency k is k / length cycles per pixel


def motion_spectra(light: Array, velocity: Array, belief: Array) -> list[Spectra]:
    """Spectra of one frame, one for each group of points of like speed; none where too little moves.

    Args:
        light: [H, W] linear brightness.
        velocity: [H, W, 2] pixels per frame.
        belief: [H, W] in [0, 1]: where the velocity is right and steady.
    """
    speed = np.hypot(velocity[..., 0], velocity[..., 1])
    moving = (speed > _SLOWEST) & (belief > 0.3)
    if moving.sum() < _FEWEST:
        return []
    reach = int(np.clip(1.5 * np.percentile(speed[moving], 75), 16, 48))
    rows, columns = textured(light, moving, reach)
    if len(rows) < _FEWEST:
        return []
    places, steps = np.stack((columns, rows), axis=-1), velocity[rows, columns]
    steps = steps / speed[rows, columns, None]
    along = _power(_profiles(light, places, steps, reach))
    across = _power(_profiles(light, places, steps[:, ::-1] * np.array([-1, 1]), reach))
    return _grouped(speed[rows, columns], along, across, 2 * reach)


def textured(light: Array, moving: Array, reach: int) -> tuple[Array, Array]:
    """Rows and columns of up to `_POINTS` moving points in the livelier half of the picture."""
    margin = min(reach // 2 + 4, min(light.shape) // 4)
    inner = np.zeros_like(moving)
    inner[margin:-margin, margin:-margin] = True
    candidates = np.flatnonzero(moving & inner)
    random = np.random.default_rng(0)
    candidates = random.choice(candidates, min(len(candidates), 3 * _POINTS), replace=False)
    slopes = cv2.Sobel(light, cv2.CV_32F, 1, 0) ** 2 + cv2.Sobel(light, cv2.CV_32F, 0, 1) ** 2
    life = cv2.GaussianBlur(slopes, (0, 0), 6).ravel()[candidates]
    lively = np.argsort(-life)[: max(_FEWEST, len(candidates) // 2)]
    keep = candidates[lively[life[lively] > _FLAT]][:_POINTS]
    rows, columns = np.unravel_index(keep, light.shape)
    return rows, columns


def _profiles(light: Array, places: Array, steps: Array, reach: int) -> Array:
    """[N, 2 reach + 1] brightness on straight lines through `places`, a pixel apart."""
    walk = np.arange(-reach, reach + 1)
    x = (places[:, :1] + steps[:, :1] * walk).astype(np.float32)
    y = (places[:, 1:] + steps[:, 1:] * walk).astype(np.float32)
    read = cv2.remap(light.astype(np.float32), x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(read)


def _power(profiles: Array) -> Array:
    """Periodograms of the steps from pixel to pixel, through a Hann window.

    Steps, because scenes fall off as 1 / f^2: their low frequencies would leak through any window.
    """
    steps = np.diff(profiles, axis=1)
    window = np.hanning(steps.shape[1] + 2)[1:-1]
    level = steps - (steps @ window)[:, None] / window.sum()
    return np.asarray(np.abs(np.fft.rfft(level * window)) ** 2 / (window @ window))


def _grouped(speed: Array, along: Array, across: Array, length: int) -> list[Spectra]:
    energy = (along + across)[:, 1:].sum(1)
    # A few strong edges must not outshout a field of grass; noise alone must not shout at all.
    weight = (1 / (energy + np.median(energy) + 1e-12))[:, None]
    order = np.array_split(np.argsort(speed), _GROUPS)
    return [
        Spectra(
            speeds=np.quantile(speed[group], _SPEEDS),
            along=(along[group] * weight[group]).mean(0),
            across=(across[group] * weight[group]).mean(0),
            count=len(group),
            length=length,
        )
        for group in order
    ]
