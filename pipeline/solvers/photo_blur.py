"""The blur field of one photograph taken by a camera that moved.

The local blur in windows of several scales (`models/deblur/local_psf.py`) is explained by one turning camera
(`motion/camera/blur_fit.py`). Where windows say that nothing moved, as those of a subject that the camera
followed do, the field is 0.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from freezeframe.data.blur.blocks import BLOCK_SIZE
from freezeframe.models.deblur.blur_field import BlurField
from freezeframe.models.deblur.local_psf import LocalPsfs, WindowGrid, local_psfs, log_probability
from freezeframe.models.deblur.psf_estimator import PsfEstimator
from freezeframe.motion.camera.blur_fit import CameraBlur, fit_camera_blur

_GRIDS = (
    (WindowGrid(side=128),),
    (WindowGrid(side=128), WindowGrid(side=96), WindowGrid(side=64)),
    tuple(WindowGrid(side=side, reduction=2, step=16) for side in (64, 96, 128)),
    tuple(WindowGrid(side=side, reduction=4, step=16) for side in (96, 128)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoBlurParams:
    """Tunables of the estimate."""

    grids: tuple[tuple[WindowGrid, ...], ...] = field(default=_GRIDS)  # the camera is fitted to each set
    min_gain: float = 1.0  # nats per window over a still camera
    min_score: float = -3.0  # mean log-probability of a window; below it nothing is explained
    still_gain: float = 3.0  # nats per window, by which it is more probable that nothing moved there
    floor: float = 1e-3  # probability of a window whose blur is neither
    min_length_px: float = 1.5  # shorter blur is left alone


DEFAULT_PARAMS = PhotoBlurParams()


@torch.no_grad()
def estimate_photo_blur(
    estimator: PsfEstimator, encoded: Tensor, *, params: PhotoBlurParams = DEFAULT_PARAMS
) -> BlurField:
    """The blur field of a photograph [3, H, W], sRGB-encoded in [0, 1].

    Small windows do not see long blur, and large ones do not see how it changes: of the fits to several sets
    of windows, the one that explains its windows best is taken.
    """
    size = encoded.shape[1:]
    fits = [(fit_camera_blur(psfs, size), psfs) for psfs in _window_sets(estimator, encoded, params)]
    moving = [
        (fit, psfs) for fit, psfs in fits if fit.gain >= params.min_gain and fit.score >= params.min_score
    ]
    if not moving:
        return _still(size)
    camera, psfs = max(moving, key=lambda each: each[0].score)
    vectors = camera.vectors(size, step=BLOCK_SIZE)
    blurred = _moved(camera, psfs[-1], vectors, size, params)
    blurred = blurred * (vectors.norm(dim=0) >= params.min_length_px)
    return BlurField(
        vectors=vectors * (blurred > 0), radius=torch.zeros_like(blurred), blurred=blurred, confidence=blurred
    )


def _window_sets(
    estimator: PsfEstimator, encoded: Tensor, params: PhotoBlurParams
) -> list[tuple[LocalPsfs, ...]]:
    grids = {grid for some in params.grids for grid in some}
    psfs = {grid: local_psfs(estimator, encoded, grid) for grid in grids}
    sets = [tuple(each for grid in some if (each := psfs[grid]) is not None) for some in params.grids]
    return [each for each in sets if each]


def _still(size: Sequence[int]) -> BlurField:
    zeros = torch.zeros(-(-size[0] // BLOCK_SIZE), -(-size[1] // BLOCK_SIZE))
    return BlurField(vectors=zeros.expand(2, -1, -1), radius=zeros, blurred=zeros, confidence=zeros + 1)


def _moved(
    camera: CameraBlur, psfs: LocalPsfs, vectors: Tensor, size: Sequence[int], params: PhotoBlurParams
) -> Tensor:
    """[h, w] in [0, 1]: 0 in blocks whose windows show no blur, though the camera moved."""
    own = camera.at(psfs.position, size).T[:, None]
    pair = torch.cat([own, torch.zeros_like(own)], 1)
    moved, still = log_probability(psfs, pair, floor=params.floor).unbind(1)
    excess = _at_blocks(still - moved, psfs, vectors.shape[1:]) - params.still_gain
    return (1 - excess).clamp(0, 1)


def _at_blocks(values: Tensor, psfs: LocalPsfs, size: Sequence[int]) -> Tensor:
    """[h, w] at blocks of values [N] at the windows, linear in between."""
    rows = int((psfs.position[0] == psfs.position[0, 0]).sum())
    x, y = psfs.position[0].view(rows, -1)[0], psfs.position[1].view(rows, -1)[:, 0]
    at = torch.stack(torch.meshgrid(_positions(x, size[1]), _positions(y, size[0]), indexing="xy"), -1)
    grid = values.view(1, 1, rows, -1)
    return grid_sample(grid, at[None], padding_mode="border", align_corners=True)[0, 0]


def _positions(middles: Tensor, count: int) -> Tensor:
    """[count] places of blocks between the first of evenly spaced middles, -1, and the last, 1."""
    at = BLOCK_SIZE * torch.arange(count) + (BLOCK_SIZE - 1) / 2
    span = float(middles[-1] - middles[0])
    return 2 * (at - middles[0]) / span - 1 if span else torch.zeros(count)
