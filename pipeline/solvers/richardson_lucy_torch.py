"""Richardson-Lucy in plain torch, on any device: slow and clear.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from freezeframe.data.blur.operator import block_mean, block_upsample, blur, blur_adjoint, support_mask

from .iteration import DARK, MAX_MOMENTUM_FACTOR, MIN_RATIO, MOMENTUM, PRIOR_WEIGHT, ordered_subset
from .observation import Observation


def richardson_lucy_torch(
    start: Tensor, observations: Sequence[Observation], *, steps: int, step_size: Tensor, tv_weight: float
) -> Tensor:
    """`richardson_lucy` on any device: the slow, clear way."""
    blocks = [_with_block_means(each) for each in observations]
    pixel_weights = [each.weight * support_mask(each.blur_vector, offset=each.offset) for each in blocks]
    weights = [
        _blur_adjoint(weight.expand_as(start), each)
        for weight, each in zip(pixel_weights, blocks, strict=True)
    ]
    sharp = before = start.clamp_min(DARK)
    for step in range(steps):
        adjoint_sum, total = torch.full_like(sharp, PRIOR_WEIGHT), torch.full_like(sharp, PRIOR_WEIGHT)
        for k in ordered_subset(step, steps=steps, count=len(blocks)):
            expected = blur(sharp, blocks[k].blur_vector, offset=blocks[k].offset).clamp_min(DARK)
            adjoint_sum += _blur_adjoint(pixel_weights[k] * blocks[k].linear / expected, blocks[k])
            total += weights[k]
        updated = sharp * (1 + (adjoint_sum / total - 1) * step_size).clamp_min(MIN_RATIO)
        before, sharp = sharp, updated * momentum_factor(before, sharp)
        sharp = tv_step(sharp, weight=tv_weight * step_size)
    return sharp


def momentum_factor(before: Tensor, now: Tensor) -> Tensor:
    """What the step from `before` to `now` multiplies the next by: about (now / before)^MOMENTUM."""
    a, b = 1 + MOMENTUM, 1 - MOMENTUM
    return ((b * before + a * now) / (a * before + b * now)).clamp(
        1 / MAX_MOMENTUM_FACTOR, MAX_MOMENTUM_FACTOR
    )


def tv_step(image: Tensor, *, weight: Tensor) -> Tensor:
    """One step down the total variation of the square root of light, joint over colours.

    The square root makes photon noise even, so that shadows and highlights are held alike.

    Args:
        image: [C, H, W] light, above 0; one channel counts as three alike.
        weight: [H, W]; 0 leaves the pixel alone.
    """
    root = image.clamp_min(DARK).sqrt()
    right = torch.diff(root, dim=2, append=root[:, :, -1:])
    down = torch.diff(root, dim=1, append=root[:, -1:])
    norm = (3 * (right.square() + down.square()).mean(0)).add(1e-4).sqrt()
    right, down = right / norm, down / norm
    divergence = right - pad(right, (1, -1)) + down - pad(down, (0, 0, 1, -1))
    return image / (1 - weight * divergence).clamp(0.5, 2)


def _blur_adjoint(linear: Tensor, observation: Observation) -> Tensor:
    return blur_adjoint(linear.contiguous(), observation.blur_vector, offset=observation.offset)


def _with_block_means(observation: Observation) -> Observation:
    size = observation.blur_vector.shape[1:]
    offset = None if observation.offset is None else block_upsample(block_mean(observation.offset), size)
    return replace(
        observation, blur_vector=block_upsample(block_mean(observation.blur_vector), size), offset=offset
    )
