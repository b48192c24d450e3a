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
from freezeframe.motion.flow.velocity import velocities

from .spectra import textured

Array = NDArray[Any]

COUNT = 64  # squares of a frame
_SLOWEST = 1.5  # pixels per frame; below, no shutter leaves a mark
_BELIEVED = 0.3  # belief in the velocity of a square's middle
_MOVING, _FEWEST = 200, 20  # pixels that must move, and squares that must be found
_LEVELS = 3  # of pictures, each half as large: a step of many pixels reads a small one
_DARK = 0.01  # contrast that flat squares are lifted to
_FAR = 4.0  # facts beyond mean no more


@dataclass(frozen=True, slots=True, kw_only=True)
class Squares:
    """Squares of one frame."""

    pictures: Tensor  # [N, 3, 32, 32] before, now, after; mean 0, contrast about 1
    facts: Tensor  # [N, 4] see `models.shutter.FACTS`


def squares(images: Tensor, flows: Mapping[tuple[int, int], Flow], *, seed: int = 0) -> list[Squares]:
    """Squares of every frame that has neighbours on both sides and enough motion to tell of.

    Args:
        images: [T, 3, H, W] linear RGB, consecutive frames.
        flows: (i, j): frame i found in frame j, for neighbours i and j.
        seed: Chooses among the textured places.
    """
    if len(images) < FRAMES:
        return []
    velocity, belief = velocities(flows, len(images))
    pyramids = [_pyramid(gamma_luma(image).detach().cpu().numpy()) for image in images]
    fields = velocity.permute(0, 2, 3, 1).detach().cpu().numpy()
    found = []
    for i in range(1, len(images) - 1):
        places = _places(pyramids[i][0], fields[i], belief[i].detach().cpu().numpy(), seed=seed + i)
        if len(places) >= _FEWEST:
            shifts = [_at(flows[i, j].shift.permute(1, 2, 0).cpu().numpy(), places) for j in (i - 1, i + 1)]
            around = slice(i - 1, i + 2)
            found.append(_cut(pyramids[around], fields[around], places, shifts))
    return found


def _places(luma: Array, field: Array, belief: Array, *, seed: int) -> Array:
    """[N, 2] columns and rows of up to `COUNT` textured points in motion."""
    speed = np.hypot(field[..., 0], field[..., 1])
    moving = (speed > _SLOWEST) & (belief > _BELIEVED)
    if moving.sum() < _MOVING:
        return np.zeros((0, 2), int)
    reach = int(np.clip(2 * np.percentile(speed[moving], 75), 12, 48))
    rows, columns = textured(luma, moving, reach)
    some = np.random.default_rng(seed).permutation(len(rows))[:COUNT]
    return np.stack([columns[some], rows[some]], axis=1)


def _cut(pyramids: list[list[Array]], fields: Array, places: Array, shifts: list[Array]) -> Squares:
    """The squares at `places` of the middle frame of three, and where `shifts` find them in the others."""
    here = _at(fields[1], places)
    speed = np.hypot(here[:, 0], here[:, 1])
    along = here / speed[:, None]
    step = speed / PER_INTERVAL
    grid = (np.arange(SIDE) - (SIDE - 1) / 2) * step[:, None]
    x = grid[:, None, :] * along[:, :1, None] - grid[:, :, None] * along[:, 1:, None]
    y = grid[:, None, :] * along[:, 1:, None] + grid[:, :, None] * along[:, :1, None]
    level = np.clip(np.floor(np.log2(step) + 1e-6), 0, _LEVELS - 1).astype(int)
    cut = np.zeros((len(places), FRAMES, SIDE, SIDE), np.float32)
    speeds = []
    for k, shift in enumerate((shifts[0], np.zeros_like(shifts[0]), shifts[1])):
        middle = places + shift
        for one in range(_LEVELS):
            these = level == one
            if these.any():
                at = middle[these][:, :, None, None]
                cut[these, k] = _read(pyramids[k][one], at[:, 0] + x[these], at[:, 1] + y[these], 2**one)
        speeds.append((_at(fields[k], middle) * along).sum(1) / speed)
    level_light = cut.mean((1, 2, 3), keepdims=True)
    contrast = cut.std((1, 2, 3), keepdims=True)
    facts = np.stack(
        [
            np.log2(speed) - 3, np.log(contrast[:, 0, 0, 0] + _DARK / 10) + 2.5, speeds[0] - 1, speeds[2] - 1
        ],
        axis=1,
    )  # fmt: skip
    return Squares(
        pictures=torch.from_numpy((cut - level_light) / (contrast + _DARK)),
        facts=torch.from_numpy(facts.clip(-_FAR, _FAR).astype(np.float32)),
    )


def _pyramid(luma: Array) -> list[Array]:
    sizes = ([max(1, round(side * part)) for side in luma.shape[::-1]] for part in (0.5, 0.25))
    return [luma, *(np.asarray(cv2.resize(luma, size, interpolation=cv2.INTER_AREA)) for size in sizes)]


def _read(luma: Array, x: Array, y: Array, scale: int) -> Array:
    """[N, S, S] brightness at coordinates of the whole picture, read from one `scale` times smaller."""
    column, row = (((at + 0.5) / scale - 0.5).astype(np.float32).reshape(-1, SIDE) for at in (x, y))
    read = cv2.remap(luma, column, row, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(read).reshape(x.shape)


def _at(field: Array, places: Array) -> Array:
    """[N, 2] of a field [H, W, 2] at the pixels nearest to `places`."""
    height, width = field.shape[:2]
    columns, rows = np.round(places).astype(int).T
    return np.asarray(field[rows.clip(0, height - 1), columns.clip(0, width - 1)])
