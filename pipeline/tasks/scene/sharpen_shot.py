"""What `freezeframe video` makes of the frames of a clip, where no scene is rebuilt: all of them at once.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from freezeframe.data.types import Clip, Motion
from freezeframe.pipeline.adaptation.network import plain_network
from freezeframe.pipeline.config import Config
from freezeframe.pipeline.stages.fuse import fuse
from freezeframe.pipeline.stages.fusion_network import finish
from freezeframe.pipeline.stages.measure import ChainedFlows, Flows, blur_weights, velocities
from freezeframe.pipeline.support.deadline import Beat, unhurried

TOGETHER = 4  # frames that are fused at once: what is known of each pixel then takes ten times the memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Usual:
    """All frames of a shot, sharpened."""

    clear: Tensor  # [T, 3, H, W] linear light: every frame, also where there is little blur
    delivered: Tensor  # [T, 3, H, W] linear light: only frames that are blurred enough, others as they came


def sharpened(  # noqa: PLR0913
    images: Tensor,
    times: Sequence[Fraction],
    flows: Flows,
    *,
    shutter: float,
    config: Config,
    beat: Beat = unhurried,
) -> Usual:
    """Consecutive frames of a shot, each sharpened from those around it.

    Args:
        images: [T, 3, H, W] linear light.
        times: Seconds.
        flows: Between neighbours, both ways.
        shutter: Exposure time over frame interval.
        config: How to fuse, when to leave alone, where to compute.
        beat: Called before each `TOGETHER` frames.
    """
    every = range(len(images))
    clip = Clip(images=images, times=tuple(times), shutter=shutter, kept=every)
    still = images.new_zeros(images.shape[2:]).expand(len(images), -1, -1)
    motion = Motion(
        flows=ChainedFlows(flows), velocity=velocities(flows, images), movers=still, shutter=shutter
    )
    network, clear = plain_network(config), torch.empty_like(images)
    for part in (every[k : k + TOGETHER] for k in range(0, len(images), TOGETHER)):
        beat()
        fused = fuse(clip, motion, config.fuse, which=part)
        clear[part.start : part.stop] = finish(fused, clip, motion, network, which=part)
    weights = torch.tensor(blur_weights(motion, config.gate)).view(-1, 1, 1, 1).to(images)
    delivered = torch.where(weights > 0, torch.lerp(images, clear, weights), images)
    return Usual(clear=clear, delivered=delivered)
