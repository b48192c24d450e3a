"""How fast each point moves at a frame's own time, from the flows to the frames around it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from freezeframe.data.types import Flow

_MAX_CHANGE = 0.4  # change of velocity within a frame interval, relative, at which belief is down to a third
_FLOW_NOISE = 0.8  # pixels of change that flow noise alone explains


def estimate_velocities(flows: Mapping[tuple[int, int], Flow], count: int) -> tuple[Tensor, Tensor]:
    """Velocity at every frame, from the flows to its direct neighbours.

    The central difference (F(i, i+1) - F(i, i-1)) / 2, leaning to the side that is trusted; one side
    alone at the ends of a shot.

    Args:
        flows: (i, j): frame i found in frame j. Needs j = i - 1 and i + 1 where these frames exist.
        count: How many frames there are.

    Returns:
        [T, 2, H, W] pixels per frame interval, and [T, H, W] belief in [0, 1] that the motion was seen and
        was steady.
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
            raise ValueError("velocities needs the flow of every frame to the frame before or after it")
        return (one_sided.uv if ahead else -one_sided.uv), one_sided.confidence
    # A little trust on both sides keeps the mean where neither is trusted.
    a, b = ahead.confidence + 0.01, behind.confidence + 0.01
    velocity = (ahead.uv * a - behind.uv * b) / (a + b)
    change = (ahead.uv + behind.uv).square().sum(0).sqrt()
    tolerance = _FLOW_NOISE + _MAX_CHANGE * velocity.square().sum(0).sqrt()
    return velocity, ahead.confidence * behind.confidence * torch.exp(-((change / tolerance).square()))
