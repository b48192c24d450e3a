"""Richardson-Lucy in plain torch: the reference implementation, on any device and in any precision.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import pad

from freezeframe.data.blur import operator
from freezeframe.data.blur.blocks import block_mean, block_upsample
from freezeframe.data.blur.operator import MIN_LINEAR, support_mask

from .iteration import DEFAULT_PARAMS, RichardsonLucyParams, ordered_subset
from .observation import Observation


def richardson_lucy_torch(
    start: Tensor,
    observations: Sequence[Observation],
    *,
    steps: int,
    step_size: Tensor,
    params: RichardsonLucyParams = DEFAULT_PARAMS,
) -> Tensor:
    """`richardson_lucy` on tensors, without its copy of frozen pixels."""
    blur = partial(operator.blur, use_numba=params.use_numba)
    adjoint = partial(_blur_adjoint, use_numba=params.use_numba)
    blocks = [_with_block_means(each) for each in observations]
    pixel_weights = [each.weight * support_mask(each.blur_vector, offset=each.offset) for each in blocks]
    weights = [
        adjoint(weight.expand_as(start), each) for weight, each in zip(pixel_weights, blocks, strict=True)
    ]
    sharp = before = start.clamp_min(MIN_LINEAR)
    for step in range(steps):
        adjoint_sum = torch.full_like(sharp, params.prior_weight)
        total = torch.full_like(sharp, params.prior_weight)
        subset = ordered_subset(
            step, steps=steps, count=len(blocks), full_subset_steps=params.full_subset_steps
        )
        for k in subset:
            expected = blur(sharp, blocks[k].blur_vector, offset=blocks[k].offset).clamp_min(MIN_LINEAR)
            adjoint_sum += adjoint(pixel_weights[k] * blocks[k].linear / expected, blocks[k])
            total += weights[k]
        updated = sharp * (1 + (adjoint_sum / total - 1) * step_size).clamp_min(params.min_ratio)
        before, sharp = sharp, updated * momentum_factor(before, sharp, params)
        sharp = tv_step(sharp, weight=params.tv_weight * step_size)
    return sharp


def momentum_factor(before: Tensor, now: Tensor, params: RichardsonLucyParams = DEFAULT_PARAMS) -> Tensor:
    """Factor by which momentum continues the step from `before` to `now`: about (now / before)^momentum."""
    a, b = 1 + params.momentum, 1 - params.momentum
    limit = params.max_momentum_factor
    return ((b * before + a * now) / (a * before + b * now)).clamp(1 / limit, limit)


def tv_step(image: Tensor, *, weight: Tensor) -> Tensor:
    """One step down the total variation of the square root of light, joint over colours.

    The square root gives photon noise one variance, so that shadows and highlights are smoothed alike.

    Args:
        image: [C, H, W] linear light, above 0; one channel counts as three equal ones.
        weight: [H, W]; 0 leaves the pixel unchanged.
    """
    root = image.clamp_min(MIN_LINEAR).sqrt()
    right = torch.diff(root, dim=2, append=root[:, :, -1:])
    down = torch.diff(root, dim=1, append=root[:, -1:])
    norm = (3 * (right.square() + down.square()).mean(0)).add(1e-4).sqrt()
    right, down = right / norm, down / norm
    divergence = right - pad(right, (1, -1)) + down - pad(down, (0, 0, 1, -1))
    return image / (1 - weight * divergence).clamp(0.5, 2)


def _blur_adjoint(linear: Tensor, observation: Observation, *, use_numba: bool) -> Tensor:
    return operator.blur_adjoint(
        linear.contiguous(), observation.blur_vector, offset=observation.offset, use_numba=use_numba
    )


def _with_block_means(observation: Observation) -> Observation:
    size = observation.blur_vector.shape[1:]
    offset = None if observation.offset is None else block_upsample(block_mean(observation.offset), size)
    return replace(
        observation, blur_vector=block_upsample(block_mean(observation.blur_vector), size), offset=offset
    )
