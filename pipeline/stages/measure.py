"""The measure stage: flow, velocity and shutter of the frames of a window.

Nothing here takes a gradient.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor

from freezeframe.data.types import Clip, Motion
from freezeframe.motion.camera.homography import fit_homography
from freezeframe.motion.camera.segmentation import segment_movers
from freezeframe.pipeline.config import GateConfig, MeasureConfig

from .continuity import dilate
from .flows import ESTIMATORS, ChainedFlows, FlowCache, Flows
from .gate import blur_ratio, blur_weight, extent
from .survey import Survey, shot_shutter


def measure(  # noqa: PLR0913  # the window, the clip, the settings and the window before
    clip: Clip,
    shot: int,
    survey: Survey,
    *,
    config: MeasureConfig,
    flow_cache: FlowCache,
    detect_movers: bool = False,
) -> Motion:
    """Estimate flow between the frames, the velocity at each frame, and independent motion.

    Args:
        clip: Frames of one shot.
        shot: Its number.
        survey: Shutter of the whole clip.
        config: Flow estimator.
        flow_cache: Flows of the window before; updated.
        detect_movers: Segment independent motion; else its mask is 0.
    """
    neighbour_flows = flow_cache.flows(clip, ESTIMATORS[config.estimator])
    velocity = velocities(neighbour_flows, clip.images, intervals(clip.times))
    no_motion = velocity.new_zeros(velocity.shape[2:])
    independent_motion = [
        _movers(neighbour_flows, i, clip.images) if detect_movers else no_motion for i in range(len(velocity))
    ]
    return Motion(
        flows=ChainedFlows(neighbour_flows),
        velocity=velocity,
        independent_motion=torch.stack(independent_motion)
        if detect_movers
        else no_motion.expand(len(velocity), -1, -1),
        shutter=flow_cache.shutter(shot, lambda: shot_shutter(clip, neighbour_flows, survey)),
    )


def frame_blur_ratio(
    motion: Motion, i: int, config: GateConfig, frame_size: tuple[int, int] | None = None
) -> float:
    """Measured blur of frame `i` over its threshold.

    Args:
        motion: Of consecutive frames of one shot.
        i: Position of the frame.
        config: Thresholds of blur.
        frame_size: Height and width of the frame, of which `motion` may show a part; None: those of `motion`.
    """
    height, width = motion.velocity.shape[2:]
    size = frame_size or (height, width)
    lengths = torch.hypot(*(motion.velocity[i, :, ::4, ::4] * motion.shutter))
    return blur_ratio(extent(lengths, share=height * width / math.prod(size)), size, config)


def blurred_frames(motion: Motion, owned: range, config: GateConfig) -> list[int]:
    """The frames of `owned` whose blur exceeds the threshold."""
    return [i for i in owned if frame_blur_ratio(motion, i, config) >= 1]


def blur_weights(
    motion: Motion, config: GateConfig, frame_size: tuple[int, int] | None = None
) -> list[float]:
    """Strength of the correction for the blur of each frame, [T] in [0, 1], continuous over time.

    Args:
        motion: Of consecutive frames of one shot.
        config: Thresholds of blur.
        frame_size: As in `frame_blur_ratio`.
    """
    ratios = [frame_blur_ratio(motion, i, config, frame_size) for i in range(len(motion.velocity))]
    return dilate([blur_weight(ratio, config) for ratio in ratios])


def intervals(times: Sequence[Fraction]) -> list[int]:
    """Frame intervals between consecutive frames: 1, or more where frames are missing."""
    steps = [float(after - before) for before, after in itertools.pairwise(times)]
    median_step = sorted(steps)[len(steps) // 2] if steps else 1.0
    return [max(1, round(step / median_step)) for step in steps]


def velocities(neighbour_flows: Flows, images: Tensor, gaps: Sequence[int] | None = None) -> Tensor:
    """Velocity at each frame, [T, 2, H, W] pixels per frame interval, by central differences.

    A mean weighted by the confidence of the two sides loses 0.05 dB of the deblurred result on REDS.

    Args:
        neighbour_flows: Flows in both directions between consecutive frames.
        images: [T, 3, H, W]
        gaps: [T - 1] frame intervals between consecutive frames; None: 1 each.
    """
    velocity = images.new_zeros(len(images), 2, *images.shape[2:])
    for i in range(len(images)):
        sides = [(i + 1, i, 1), (i - 1, i - 1, -1)]  # neighbour, gap, direction of time
        observed = [(neighbour_flows[i, j].uv, k, sign) for j, k, sign in sides if (i, j) in neighbour_flows]
        for uv, k, sign in observed:
            velocity[i].add_(uv, alpha=sign / (gaps[k] if gaps else 1) / len(observed))
    return velocity


def _movers(neighbour_flows: Flows, i: int, images: Tensor) -> Tensor:
    flow = neighbour_flows.get((i, i + 1)) or neighbour_flows.get((i, i - 1))
    camera = fit_homography(flow.uv, flow.confidence) if flow else None
    return (
        images.new_zeros(images.shape[2:]) if flow is None or camera is None else segment_movers(flow, camera)
    )
