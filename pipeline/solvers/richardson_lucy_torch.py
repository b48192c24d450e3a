"""Richardson-Lucy in plain torch, on any device: slow and clear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from freezeframe.data.blur.operator import blur, blur_adjoint, repeated, shared, within

from .iteration import DARK, FARTHEST, LEAST, MOMENTUM, UNSEEN, asked
from .observation import Observation


def iterate_tensors(
    start: Tensor, observations: Sequence[Observation], *, steps: int, pace: Tensor, smooth: float
) -> Tensor:
    """`richardson_lucy` on any device: the slow, clear way."""
    seen = [_in_blocks(each) for each in observations]
    believed = [each.belief * within(each.way, offset=each.offset) for each in seen]
    weights = [_back(belief.expand_as(start), each) for belief, each in zip(believed, seen, strict=True)]
    sharp = before = start.clamp_min(DARK)
    for step in range(steps):
        gathered, total = torch.full_like(sharp, UNSEEN), torch.full_like(sharp, UNSEEN)
        for k in asked(step, steps=steps, count=len(seen)):
            expected = blur(sharp, seen[k].way, offset=seen[k].offset).clamp_min(DARK)
            gathered += _back(believed[k] * seen[k].light / expected, seen[k])
            total += weights[k]
        pushed = sharp * (1 + (gathered / total - 1) * pace).clamp_min(LEAST)
        before, sharp = sharp, pushed * carried(before, sharp)
        sharp = calmed(sharp, weight=smooth * pace)
    return sharp


def carried(before: Tensor, now: Tensor) -> Tensor:
    """What the step from `before` to `now` multiplies the next by: about (now / before)^MOMENTUM."""
    a, b = 1 + MOMENTUM, 1 - MOMENTUM
    return ((b * before + a * now) / (a * before + b * now)).clamp(1 / FARTHEST, FARTHEST)


def calmed(image: Tensor, *, weight: Tensor) -> Tensor:
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
    spread = right - pad(right, (1, -1)) + down - pad(down, (0, 0, 1, -1))
    return image / (1 - weight * spread).clamp(0.5, 2)


def _back(light: Tensor, seen: Observation) -> Tensor:
    return blur_adjoint(light.contiguous(), seen.way, offset=seen.offset)


def _in_blocks(seen: Observation) -> Observation:
    size = seen.way.shape[1:]
    offset = None if seen.offset is None else repeated(shared(seen.offset), size)
    return replace(seen, way=repeated(shared(seen.way), size), offset=offset)
