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

import torch
from torch import Tensor

from freezeframe.data.blur import operator as exposure

from .observation import Observation
from .richardson_lucy_torch import richardson_lucy_torch

FREEZE_BELOW = 0.02  # pace; slower pixels are left alone, and what only they would be told is not computed


def richardson_lucy(
    start: Tensor, observations: Sequence[Observation], *, steps: int, step_size: Tensor, tv_weight: float
) -> Tensor:
    """Sharpen `start` until, blurred, it explains the observations.

    Args:
        start: First guess, usually the frame itself. [3, H, W] linear RGB.
        observations: The frame, then its neighbours in order of time.
        steps: Iterations.
        step_size: How much of each step to take, per pixel. [H, W] in [0, 2); below `FREEZE_BELOW` the pixel keeps its
            bits, above 1 over-relaxes: nearly twice as far in each step, stable below 2.
        tv_weight: Weight of the total-variation prior; 0 is none.

    Returns:
        [3, H, W] linear RGB.
    """
    step_size = torch.where(step_size < FREEZE_BELOW, 0.0, step_size)
    if exposure.use_kernels(start, step_size):
        from .richardson_lucy_numba import iterate
    else:
        iterate = richardson_lucy_torch
    sharp = iterate(start, observations, steps=steps, step_size=step_size, tv_weight=tv_weight)
    # Copied: what fast arithmetic multiplies and divides by 1 is a last bit off on some processors.
    return torch.where(step_size > 0, sharp, start)
