"""Velocity of each point at the time of its frame, from the flows to the adjacent frames."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from freezeframe.data.types import Flow

_RELATIVE_TOLERANCE = 0.4  # relative change of velocity per frame interval that lowers confidence to 1 / e
_FLOW_NOISE = 0.8  # pixels of change due to flow noise, added to that


def estimate_velocities(flows: Mapping[tuple[int, int], Flow], count: int) -> tuple[Tensor, Tensor]:
    """Velocity of every frame, from the flows to its adjacent frames.

    The central difference (F(i, i+1) - F(i, i-1)) / 2, weighted by the confidence of both flows; a
    one-sided difference at the ends of a shot.

    Args:
        flows: (i, j): flow from frame i to frame j. Needs j = i - 1 and i + 1 where these frames exist.
        count: Number of frames.

    Returns:
        [T, 2, H, W] pixels per frame interval, and its confidence [T, H, W] in [0, 1]: low where a flow is
        unreliable or the motion accelerates.
    """
    if count == 1:
        shape = next(iter(flows.values())).confidence.shape if flows else (1, 1)
        return torch.zeros(1, 2, *shape), torch.zeros(1, *shape)
    frames = [_velocity(flows.get((i, i + 1)), flows.get((i, i - 1))) for i in range(count)]
    return torch.stack([v for v, _ in frames]), torch.stack([b for _, b in frames])


def _velocity(ahead: Flow | None, behind: Flow | None) -> tuple[Tensor, Tensor]:
    if ahead is None or behind is None:
        one_sided = ahead or behind
        if one_sided is None:
            raise ValueError("velocity needs the flow from every frame to the previous or next frame")
        return (one_sided.uv if ahead else -one_sided.uv), one_sided.confidence
    # The offset makes this the plain mean where both confidences are 0.
    a, b = ahead.confidence + 0.01, behind.confidence + 0.01
    velocity = (ahead.uv * a - behind.uv * b) / (a + b)
    change = (ahead.uv + behind.uv).square().sum(0).sqrt()
    tolerance = _FLOW_NOISE + _RELATIVE_TOLERANCE * velocity.square().sum(0).sqrt()
    return velocity, ahead.confidence * behind.confidence * torch.exp(-((change / tolerance).square()))
