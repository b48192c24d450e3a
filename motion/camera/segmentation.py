"""Independent motion (players, balls) and overlays (score boards, logos)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from freezeframe.data.types import Flow

from .homography import homography_to_flow


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentationConfig:
    """Tunables of the segmentation."""

    mover_threshold: float = 1.0  # pixels of residual flow at which independent motion has probability 0.5
    threshold_slope: float = 0.08  # pixels more per pixel of camera motion: errors grow with the motion
    min_pan: float = 3.0  # pixels per frame interval of camera motion that separate overlay and scene
    min_pairs: int = 2  # pairs of frames with a pan that detect an overlay


_DEFAULT = SegmentationConfig()


def segment_movers(flow: Flow, matrix: Tensor, *, config: SegmentationConfig = _DEFAULT) -> Tensor:
    """Probability of independent motion, [H, W] in [0, 1]. Takes no gradient.

    A sigmoid of the distance between the flow and that of the camera's homography [3, 3]. Where the flow has
    no confidence, the local mean is used.
    """
    camera_uv = homography_to_flow(matrix, (*flow.confidence.shape,)).to(flow.uv)
    residual = (flow.uv - camera_uv).square().sum(0).sqrt()
    threshold = config.mover_threshold + config.threshold_slope * camera_uv.square().sum(0).sqrt()
    probability = torch.sigmoid(4 * (residual / threshold - 1))
    return _fill_by_confidence(probability, flow.confidence)


def detect_overlays(pairs: Sequence[tuple[Flow, Tensor]], *, config: SegmentationConfig = _DEFAULT) -> Tensor:
    """Probability of a broadcast overlay, [H, W] in [0, 1]. Takes no gradient.

    Score boards and logos are static on the screen while the camera pans. Pairs without a pan are ignored;
    with too few others, the result is 0.

    Args:
        pairs: Flow between two frames and the camera's homography [3, 3] between them.
        config: Tunables.
    """
    if not pairs:
        raise ValueError("overlay detection needs the flow of at least one pair of frames")
    votes, weights = torch.zeros_like(pairs[0][0].confidence), torch.zeros_like(pairs[0][0].confidence)
    pan_count = 0
    for flow, matrix in pairs:
        camera_uv = homography_to_flow(matrix, (*flow.confidence.shape,)).to(flow.uv).square().sum(0).sqrt()
        pan_count += bool(camera_uv.median() > config.min_pan)
        weight = (camera_uv > config.min_pan) * flow.confidence
        votes += weight * torch.sigmoid(8 * (0.5 - flow.uv.square().sum(0).sqrt()))
        weights += weight
    score = votes / weights.clamp(min=1e-6)
    enough = (weights >= 0.5 * config.min_pairs) & (pan_count >= config.min_pairs)
    return torch.where(enough, score, torch.zeros_like(score))


def _fill_by_confidence(values: Tensor, confidence: Tensor, *, window: int = 9) -> Tensor:
    """Blend `values` with their confidence-weighted local mean."""
    stack = torch.stack((values * confidence, confidence)).unsqueeze(1)
    sums = functional.avg_pool2d(
        stack, window, stride=1, padding=window // 2, count_include_pad=False
    ).squeeze(1)
    local_mean = sums[0] / sums[1].clamp(min=1e-3)
    return confidence * values + (1 - confidence) * local_mean.clamp(0, 1)
