"""Multi-frame Richardson-Lucy: the sharp picture that explains what several exposures recorded.

Each observation is a frame y with the way along which it blurs the sharp picture x it is explained by, B x,
and a belief c per pixel. With the adjoint B', one step is

    x <- x * (sum B' c (y / B x)) / (sum B' c)

(Richardson 1972, Lucy 1974, for several observations with weights). Part of the step before is taken again
(momentum, Polyak 1964): the same picture in three quarters of the steps. All but the last few ask only every
other neighbour (ordered subsets, Hudson and Larkin 1994): the same picture for up to a third less work. A
total-variation prior (Dey et al. 2006) holds back noise and ringing; where a frame's blur is short there is
nothing to undo, and the step is damped.

Blocks of four by four pixels share one way, their mean: a quarter of the time, for 0.02 dB on the REDS pairs.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..data import exposure
from ..data.exposure import blur, blur_adjoint, repeated, shared, within

DARK = 1e-4  # linear light; less is noise, and a ratio of it means nothing
LEAST = 0.2  # of its light that a pixel keeps in one step, however far it is pushed
MOMENTUM = 0.3  # of the step before: of light's logarithm, as steps multiply. Of light itself: 0.3 dB worse
FARTHEST = 1.22  # times as much light that momentum makes in one step
TOGETHER = 3  # last steps, which ask all: what one half said of noise, the other half takes back
STILL = 0.02  # pace; slower pixels are left alone, and what only they would be told is not computed
UNSEEN = 1e-2  # belief in leaving a pixel as it is, against observations that barely see it


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One frame, and how the sharp picture turned into it."""

    light: Tensor  # [C, H, W] linear light, as recorded
    offset: Tensor | None  # [2, H, W] pixels: where in the sharp picture a pixel's way has its middle
    way: Tensor  # [2, H, W] pixels travelled while the shutter was open
    belief: Tensor  # [H, W] in [0, 1]


def richardson_lucy(
    start: Tensor, observations: Sequence[Observation], *, steps: int, pace: Tensor, smooth: float
) -> Tensor:
    """Sharpen `start` until, blurred, it explains the observations.

    Args:
        start: First guess, usually the frame itself. [3, H, W] linear RGB.
        observations: The frame, then its neighbours in order of time.
        steps: Iterations.
        pace: How much of each step to take, per pixel. [H, W] in [0, 2); below `STILL` the pixel keeps its
            bits, above 1 over-relaxes: nearly twice as far in each step, stable below 2.
        smooth: Weight of the total-variation prior; 0 is none.

    Returns:
        [3, H, W] linear RGB.
    """
    pace = torch.where(pace < STILL, 0.0, pace)
    if exposure.compiled(start, pace):
        from .deconvolve_compiled import iterate
    else:
        iterate = iterate_tensors
    sharp = iterate(start, observations, steps=steps, pace=pace, smooth=smooth)
    # Copied: what fast arithmetic multiplies and divides by 1 is a last bit off on some processors.
    return torch.where(pace > 0, sharp, start)


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


def asked(step: int, *, steps: int, count: int) -> Sequence[int]:
    """Which of `count` observations a step asks: the first and every other one after it, in turn.

    The last steps ask all, and so does every step with fewer than three neighbours: one alone says too little
    of what is noise.
    """
    if step >= steps - TOGETHER or count < 4:
        return range(count)
    return [0, *range(1 + step % 2, count, 2)]


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
