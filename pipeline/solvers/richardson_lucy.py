"""Multi-frame Richardson-Lucy deconvolution: one sharp image from several blurred observations.

Each observation is a frame y with its blur operator B and a confidence c per pixel. With the adjoint B', one
step updates the sharp image x by

    x <- x * (sum B' c (y / B x)) / (sum B' c)

(Richardson 1972, Lucy 1974, for several weighted observations). Momentum (Polyak 1964) repeats a part of the
previous step: the same result in three quarters of the steps. Ordered subsets (Hudson and Larkin 1994) use
every other neighbour in all but the final steps: the same result for up to a third less work. A
total-variation prior (Dey et al. 2006) limits noise and ringing. The step is damped where a frame has little
blur to remove.

Blocks of four by four pixels share their mean blur vector: a quarter of the time, for 0.02 dB on the REDS
pairs.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from freezeframe.data.blur.operator import use_kernels

from .iteration import DEFAULT_PARAMS, RichardsonLucyParams
from .observation import Observation
from .richardson_lucy_torch import richardson_lucy_torch


def richardson_lucy(
    start: Tensor,
    observations: Sequence[Observation],
    *,
    steps: int,
    step_size: Tensor,
    params: RichardsonLucyParams = DEFAULT_PARAMS,
) -> Tensor:
    """Sharpen `start` until, blurred, it matches the observations.

    Args:
        start: First estimate, usually the frame itself. [3, H, W] linear RGB.
        observations: The frame, then its neighbours in order of time.
        steps: Iterations.
        step_size: Relaxation of each step, per pixel. [H, W] in [0, 2). Pixels below `params.freeze_below`
            keep their bits. Above 1 the step is over-relaxed: nearly twice as far, stable below 2.
        params: Settings of the algorithm.

    Returns:
        [3, H, W] linear RGB.
    """
    step_size = torch.where(step_size < params.freeze_below, 0.0, step_size)
    if params.use_numba and use_kernels(start, step_size):
        from .richardson_lucy_numba import richardson_lucy_numba

        sharp = richardson_lucy_numba(start, observations, steps=steps, step_size=step_size, params=params)
    else:
        sharp = richardson_lucy_torch(start, observations, steps=steps, step_size=step_size, params=params)
    # Copied: on some processors fast arithmetic changes the last bit of what it multiplies and divides by 1.
    return torch.where(step_size > 0, sharp, start)
