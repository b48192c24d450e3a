"""Power spectra of an image parallel and perpendicular to its motion.

Motion blur attenuates the parallel spectrum only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectraConfig:
    """Selection and grouping of the profiles."""

    min_speed: float = 3.0  # pixels per frame interval; below, no zero of the sinc is within the spectrum
    min_confidence: float = 0.3  # of the velocity
    max_profiles: int = 3000  # per frame
    min_profiles: int = 200  # per frame; fewer give no spectra
    min_energy: float = 1e-9  # squared gradient of luminance; less is a wall without grain
    groups: int = 6  # of points of similar speed
    speed_quantiles: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)  # that represent the speeds of a group


_DEFAULT = SpectraConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectra:
    """Mean power spectra of many short profiles through points of similar speed."""

    speeds: Array  # [5] pixels per frame interval: quantiles of the speeds of the points
    parallel: Array  # [F] power parallel to the motion
    perpendicular: Array  # [F] power perpendicular to the motion, which motion blur leaves unchanged
    count: int  # profiles
    length: int  # steps of a profile; frequency k is k / length cycles per pixel


def motion_spectra(
    luminance: Array, velocity: Array, confidence: Array, *, config: SpectraConfig = _DEFAULT
) -> list[Spectra]:
    """Spectra of one frame, one for each group of points of similar speed; none where too little moves.

    Args:
        luminance: [H, W] linear luminance.
        velocity: [H, W, 2] pixels per frame interval.
        confidence: [H, W] in [0, 1], of the velocity.
        config: Selection and grouping of the profiles.
    """
    speed = np.hypot(velocity[..., 0], velocity[..., 1])
    moving = (speed > config.min_speed) & (confidence > config.min_confidence)
    if moving.sum() < config.min_profiles:
        return []
    half_length = int(np.clip(1.5 * np.percentile(speed[moving], 75), 16, 48))
    rows, columns = select_textured_points(luminance, moving, half_length, config=config)
    if len(rows) < config.min_profiles:
        return []
    points, steps = np.stack((columns, rows), axis=-1), velocity[rows, columns]
    steps = steps / speed[rows, columns, None]
    parallel = _power(_profiles(luminance, points, steps, half_length))
    perpendicular = _power(_profiles(luminance, points, steps[:, ::-1] * np.array([-1, 1]), half_length))
    return _group_by_speed(
        speed[rows, columns], parallel, perpendicular, length=2 * half_length, config=config
    )


def select_textured_points(
    luminance: Array, moving: Array, half_length: int, *, config: SpectraConfig = _DEFAULT
) -> tuple[Array, Array]:
    """Rows and columns of at most `config.max_profiles` moving points, from the more textured half."""
    margin = min(half_length // 2 + 4, min(luminance.shape) // 4)
    inner = np.zeros_like(moving)
    inner[margin:-margin, margin:-margin] = True
    candidates = np.flatnonzero(moving & inner)
    random = np.random.default_rng(0)
    candidates = random.choice(candidates, min(len(candidates), 3 * config.max_profiles), replace=False)
    energy = cv2.Sobel(luminance, cv2.CV_32F, 1, 0) ** 2 + cv2.Sobel(luminance, cv2.CV_32F, 0, 1) ** 2
    texture_energy = cv2.GaussianBlur(energy, (0, 0), 6).ravel()[candidates]
    by_energy = np.argsort(-texture_energy)[: max(config.min_profiles, len(candidates) // 2)]
    textured = candidates[by_energy[texture_energy[by_energy] > config.min_energy]][: config.max_profiles]
    rows, columns = np.unravel_index(textured, luminance.shape)
    return rows, columns


def _profiles(luminance: Array, points: Array, steps: Array, half_length: int) -> Array:
    """[N, 2 half_length + 1] luminance on straight lines through `points`, sampled once per pixel."""
    offsets = np.arange(-half_length, half_length + 1)
    x = (points[:, :1] + steps[:, :1] * offsets).astype(np.float32)
    y = (points[:, 1:] + steps[:, 1:] * offsets).astype(np.float32)
    profile = cv2.remap(
        luminance.astype(np.float32), x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.asarray(profile)


def _power(profiles: Array) -> Array:
    """Periodograms of the first differences of profiles, with a Hann window.

    Spectra of scenes fall off as 1 / f^2: without the differences, low frequencies leak through any window.
    """
    steps = np.diff(profiles, axis=1)
    window = np.hanning(steps.shape[1] + 2)[1:-1]
    centred = steps - (steps @ window)[:, None] / window.sum()
    return np.asarray(np.abs(np.fft.rfft(centred * window)) ** 2 / (window @ window))


def _group_by_speed(
    speed: Array, parallel: Array, perpendicular: Array, *, length: int, config: SpectraConfig
) -> list[Spectra]:
    energy = (parallel + perpendicular)[:, 1:].sum(1)
    # Normalised, so that a few strong edges do not outweigh fine texture; the median keeps noise down.
    weight = (1 / (energy + np.median(energy) + 1e-12))[:, None]
    order = np.array_split(np.argsort(speed), config.groups)
    return [
        Spectra(
            speeds=np.quantile(speed[group], config.speed_quantiles),
            parallel=(parallel[group] * weight[group]).mean(0),
            perpendicular=(perpendicular[group] * weight[group]).mean(0),
            count=len(group),
            length=length,
        )
        for group in order
    ]
