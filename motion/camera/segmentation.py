"""What moves otherwise than the camera: players, balls; and what does not move although the camera does."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from freezeframe.data.types import Flow

from .homography import homography_to_flow

_MOVER_THRESHOLD = 1.0  # pixels of difference at which a point is as likely a mover as not
_THRESHOLD_SLOPE = (
    0.08  # further pixels per pixel of camera motion: homographies and flows err more on long ways
)
_MIN_PAN = 3.0  # pixels per frame, the least of camera motion that tells an overlay from the scene
_MIN_PAIRS = 2  # pairs of frames with a pan, the least to call something an overlay


def movers(flow: Flow, matrix: Tensor) -> Tensor:
    """How surely each point moves otherwise than the camera, [H, W] in [0, 1]. Takes no gradient.

    A soft step in the distance between the flow and what the camera's homography [3, 3] predicts. Untrusted
    flow says nothing by itself: there the surroundings speak.
    """
    camera_uv = homography_to_flow(matrix, (*flow.confidence.shape,)).to(flow.uv)
    residual = (flow.uv - camera_uv).square().sum(0).sqrt()
    threshold = _MOVER_THRESHOLD + _THRESHOLD_SLOPE * camera_uv.square().sum(0).sqrt()
    probability = torch.sigmoid(4 * (residual / threshold - 1))
    return _fill_by_confidence(probability, flow.confidence)


def detect_overlays(pairs: Sequence[tuple[Flow, Tensor]]) -> Tensor:
    """How surely each pixel belongs to a broadcast overlay, [H, W] in [0, 1]. Takes no gradient.

    Score boards and logos stay where they are on the screen while the camera pans over the scene. Pairs
    without a pan say nothing; without enough of them nothing is an overlay.

    Args:
        pairs: Flow between two frames and the camera's homography [3, 3] between them.
    """
    if not pairs:
        raise ValueError("overlays needs the flow of at least one pair of frames")
    votes, weights = torch.zeros_like(pairs[0][0].confidence), torch.zeros_like(pairs[0][0].confidence)
    pan_count = 0
    for flow, matrix in pairs:
        camera_uv = homography_to_flow(matrix, (*flow.confidence.shape,)).to(flow.uv).square().sum(0).sqrt()
        pan_count += bool(camera_uv.median() > _MIN_PAN)
        weight = (camera_uv > _MIN_PAN) * flow.confidence
        votes += weight * torch.sigmoid(8 * (0.5 - flow.uv.square().sum(0).sqrt()))
        weights += weight
    score = votes / weights.clamp(min=1e-6)
    enough = (weights >= 0.5 * _MIN_PAIRS) & (pan_count >= _MIN_PAIRS)
    return torch.where(enough, score, torch.zeros_like(score))


def _fill_by_confidence(values: Tensor, confidence: Tensor, *, window: int = 9) -> Tensor:
    """Values where they are trusted; elsewhere the trusted mean of the surroundings."""
    stack = torch.stack((values * confidence, confidence)).unsqueeze(1)
    sums = functional.avg_pool2d(
        stack, window, stride=1, padding=window // 2, count_include_pad=False
    ).squeeze(1)
    local_mean = sums[0] / sums[1].clamp(min=1e-3)
    return confidence * values + (1 - confidence) * local_mean.clamp(0, 1)
