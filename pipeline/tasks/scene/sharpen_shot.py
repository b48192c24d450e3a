"""Deblurs all frames of one shot with the video pipeline.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from freezeframe.data.types import Clip, Motion
from freezeframe.pipeline.adaptation.network import load_plain_network
from freezeframe.pipeline.config import Config
from freezeframe.pipeline.stages.flows import ChainedFlows, Flows
from freezeframe.pipeline.stages.fuse import fuse
from freezeframe.pipeline.stages.fusion_network import run_fusion_network
from freezeframe.pipeline.stages.measure import blur_weights, velocities
from freezeframe.pipeline.support.limits.deadline import DeadlineCheck, no_deadline

FRAMES_PER_BATCH = 4  # frames that are fused at once, in about ten times their memory


@dataclass(frozen=True, slots=True, kw_only=True)
class SharpenedShot:
    """Deblurred frames of a shot."""

    full: Tensor  # [T, 3, H, W] linear RGB: all frames deblurred
    gated: Tensor  # [T, 3, H, W] linear RGB: frames below the blur thresholds unchanged


def sharpen_shot(  # noqa: PLR0913
    images: Tensor,
    times: Sequence[Fraction],
    flows: Flows,
    *,
    shutter: float,
    config: Config,
    check_deadline: DeadlineCheck = no_deadline,
) -> SharpenedShot:
    """Deblur each frame with its neighbours.

    Args:
        images: Consecutive frames. [T, 3, H, W] linear RGB.
        times: Seconds.
        flows: Between neighbours, in both directions.
        shutter: Exposure time over frame interval.
        config: Settings of fusion, gate and device.
        check_deadline: Called before each `FRAMES_PER_BATCH` frames.
    """
    frame_range = range(len(images))
    clip = Clip(images=images, times=tuple(times), shutter=shutter, owned=frame_range)
    no_movers = images.new_zeros(images.shape[2:]).expand(len(images), -1, -1)
    motion = Motion(
        flows=ChainedFlows(flows),
        velocity=velocities(flows, images),
        independent_motion=no_movers,
        shutter=shutter,
    )
    network, full = load_plain_network(config), torch.empty_like(images)
    for batch in (frame_range[k : k + FRAMES_PER_BATCH] for k in range(0, len(images), FRAMES_PER_BATCH)):
        check_deadline()
        fused = fuse(clip, motion, config.fuse, which=batch)
        full[batch.start : batch.stop] = run_fusion_network(fused, clip, motion, network, which=batch)
    weights = torch.tensor(blur_weights(motion, config.gate)).view(-1, 1, 1, 1).to(images)
    gated = torch.where(weights > 0, torch.lerp(images, full, weights), images)
    return SharpenedShot(full=full, gated=gated)
