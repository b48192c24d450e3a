"""Bounds of motion and scene cuts from thumbnails, cheap enough for every frame.

Nothing here takes a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .estimators import dis_uv

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ThumbnailConfig:
    """Tunables of motion bounds and of scene cut detection."""

    max_side: int = 320  # pixels of the longer side of the images whose flow is estimated
    min_fine_side: int = 128  # pixels of the shorter side; smaller images get the coarse estimate only
    cut_size: tuple[int, int] = (64, 36)  # columns and rows of the thumbnails of scene cut detection
    centre_fraction: float = 0.6  # fraction of the sides that is matched in the other thumbnail
    cut_decorrelation: float = 0.6  # 1 - correlation that no pan, flash or passing actor reaches
    min_std: float = 1.0  # code values: standard deviation of a thumbnail without texture


_DEFAULT = ThumbnailConfig()


def coarse_speeds(before: Tensor, after: Tensor, *, config: ThumbnailConfig = _DEFAULT) -> Tensor:
    """Speed in pixels per frame interval on a regular grid over the image, [h, w].

    From the flow of downsampled images, in about two milliseconds: accurate to one or two pixels.

    Args:
        before: [H, W] uint8 gamma-coded luma.
        after: The same of the next frame.
        config: Tunables.
    """
    a, b = _downsample(before.numpy(), after.numpy(), max_side=config.max_side)
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    flow = np.asarray(search.calc(a, b, np.zeros((*a.shape, 2), np.float32)))
    speed = np.hypot(flow[..., 0], flow[..., 1])[::2, ::2]
    return torch.from_numpy(speed * max(1.0, max(before.shape) / config.max_side))


def fine_speeds(before: Tensor, after: Tensor, *, config: ThumbnailConfig = _DEFAULT) -> Tensor:
    """`coarse_speeds` from images of half the size: accurate to half a pixel, in ten times the time."""
    if min(before.shape) < config.min_fine_side:
        return coarse_speeds(before, after, config=config)
    a, b = (np.asarray(_halve(luma.numpy()), np.uint8) for luma in (before, after))
    uv = 2 * dis_uv(a, b)[:, ::2, ::2]
    return torch.hypot(uv[0], uv[1])


def scene_cut_score(before: Tensor, after: Tensor, *, config: ThumbnailConfig = _DEFAULT) -> float:
    """Score of a scene cut between consecutive frames, [H, W] uint8 luma: in [0, 1], a cut above 0.5.

    Normalised cross-correlation of the centre of each thumbnail with the other thumbnail. It is insensitive
    to flashes and to pans of less than a fifth of the frame.
    """
    a, b = (_thumbnail(luma.numpy(), config.cut_size) for luma in (before, after))
    decorrelation = 1 - max(_match_score(a, b, config), _match_score(b, a, config))
    return float(np.clip(decorrelation / config.cut_decorrelation, 0, 1))


def _downsample(*lumas: Array, max_side: int) -> tuple[Array, ...]:
    shrink = min(1.0, max_side / max(lumas[0].shape))
    # The patches of dense inverse search do not fit into smaller images.
    size = tuple(max(32, round(side * shrink)) for side in lumas[0].shape[::-1])
    return tuple(cv2.resize(luma, size, interpolation=cv2.INTER_AREA) for luma in lumas)


def _halve(luma: Array) -> Array:
    return np.asarray(cv2.resize(luma, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))


def _thumbnail(luma: Array, size: tuple[int, int]) -> Array:
    return np.asarray(cv2.resize(luma, size, interpolation=cv2.INTER_AREA).astype(np.float32))


def _match_score(template: Array, image: Array, config: ThumbnailConfig) -> float:
    """Highest correlation, in [-1, 1], of the centre of one thumbnail with any part of another."""
    height, width = template.shape
    margin = 1 - config.centre_fraction
    y, x = round(height * margin / 2), round(width * margin / 2)
    centre = np.ascontiguousarray(template[y : height - y, x : width - x])
    if centre.std() < config.min_std:
        return float(abs(centre.mean() - image.mean()) < 32 and image.std() < 2 * config.min_std)
    return float(cv2.matchTemplate(image, centre, cv2.TM_CCOEFF_NORMED).max())
