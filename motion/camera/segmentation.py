"""What moves otherwise than the camera: players, balls; and what does not move although the camera does."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from freezeframe.data.types import Flow

from .homography import camera_flow

_APART = 1.0  # pixels of difference at which a point is as likely a mover as not
_SLACK = 0.08  # further pixels per pixel of camera motion: homographies and flows err more on long ways
_PAN = 3.0  # pixels per frame, the least of camera motion that tells an overlay from the scene
_FEWEST = 2  # pairs of frames with a pan, the least to call something an overlay


def movers(flow: Flow, matrix: Tensor) -> Tensor:
    """How surely each point moves otherwise than the camera, [H, W] in [0, 1]. Takes no gradient.

    A soft step in the distance between the flow and what the camera's homography [3, 3] predicts. Untrusted
    flow says nothing by itself: there the surroundings speak.
    """
    camera = camera_flow(matrix, (*flow.trust.shape,)).to(flow.shift)
    off = (flow.shift - camera).square().sum(0).sqrt()
    allowed = _APART + _SLACK * camera.square().sum(0).sqrt()
    apart = torch.sigmoid(4 * (off / allowed - 1))
    return _trusted_mean(apart, flow.trust)


def overlays(pairs: Sequence[tuple[Flow, Tensor]]) -> Tensor:
    """How surely each pixel belongs to a broadcast overlay, [H, W] in [0, 1]. Takes no gradient.

    Score boards and logos stay where they are on the screen while the camera pans over the scene. Pairs
    without a pan say nothing; without enough of them nothing is an overlay.

    Args:
        pairs: Flow between two frames and the camera's homography [3, 3] between them.
    """
    if not pairs:
        raise ValueError("overlays needs the flow of at least one pair of frames")
    votes, weights = torch.zeros_like(pairs[0][0].trust), torch.zeros_like(pairs[0][0].trust)
    panned = 0
    for flow, matrix in pairs:
        camera = camera_flow(matrix, (*flow.trust.shape,)).to(flow.shift).square().sum(0).sqrt()
        panned += bool(camera.median() > _PAN)
        weight = (camera > _PAN) * flow.trust
        votes += weight * torch.sigmoid(8 * (0.5 - flow.shift.square().sum(0).sqrt()))
        weights += weight
    share = votes / weights.clamp(min=1e-6)
    enough = (weights >= 0.5 * _FEWEST) & (panned >= _FEWEST)
    return torch.where(enough, share, torch.zeros_like(share))


def _trusted_mean(values: Tensor, trust: Tensor, *, reach: int = 9) -> Tensor:
    """Values where they are trusted; elsewhere the trusted mean of the surroundings."""
    stack = torch.stack((values * trust, trust)).unsqueeze(1)
    sums = functional.avg_pool2d(stack, reach, stride=1, padding=reach // 2, count_include_pad=False).squeeze(
        1
    )
    around = sums[0] / sums[1].clamp(min=1e-3)
    return trust * values + (1 - trust) * around.clamp(0, 1)
