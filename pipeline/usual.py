"""What `freezeframe video` makes of the frames of a clip, where no scene is rebuilt: all of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from torch import Tensor

from ..data.types import Clip, Motion
from .config import Config
from .finish import finish
from .fuse import fuse
from .measure import ChainedFlows, Flows, blurred, velocities
from .network import plain_network

TOGETHER = 16  # frames that are fused at once: what is known of each pixel then takes ten times the memory


def sharpened(
    images: Tensor, times: Sequence[Fraction], flows: Flows, *, shutter: float, config: Config
) -> Tensor:
    """Consecutive frames of a shot, each sharpened from those around it where it is blurred.

    Args:
        images: [T, 3, H, W] linear light.
        times: Seconds.
        flows: Between neighbours, both ways.
        shutter: Exposure time over frame interval.
        config: How to fuse, when to leave alone, where to compute.

    Returns:
        [T, 3, H, W] linear light; frames that are not blurred as they were.
    """
    every = range(len(images))
    clip = Clip(images=images, times=tuple(times), shutter=shutter, kept=every)
    still = images.new_zeros(images.shape[2:]).expand(len(images), -1, -1)
    motion = Motion(
        flows=ChainedFlows(flows), velocity=velocities(flows, images), movers=still, shutter=shutter
    )
    which, network, done = blurred(motion, every, config.gate), plain_network(config), images.clone()
    for part in (which[k : k + TOGETHER] for k in range(0, len(which), TOGETHER)):
        fused = fuse(clip, motion, config.fuse, which=part)
        done[part] = finish(fused, clip, motion, network, which=part)
    return done
