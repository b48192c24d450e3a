"""Settings and ordered subsets that both implementations of Richardson-Lucy share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RichardsonLucyParams:
    """Settings of Richardson-Lucy."""

    tv_weight: float = 0.004  # of the total-variation prior; 0 is none
    freeze_below: float = 0.02  # step size; pixels below it are copied and cost nothing
    min_ratio: float = 0.2  # of its linear light that a pixel keeps in one step
    momentum: float = 0.3  # of the previous step in log light, as updates multiply; in light it costs 0.3 dB
    max_momentum_factor: float = 1.22  # by which momentum multiplies light in one step
    full_subset_steps: int = 3  # final steps, with all observations: they average out subset noise
    prior_weight: float = 1e-2  # of the current estimate, against observations that barely cover a pixel
    use_numba: bool = True  # where numba is installed and the tensors are float32 on the CPU


DEFAULT_PARAMS = RichardsonLucyParams()


def ordered_subset(step: int, *, steps: int, count: int, full_subset_steps: int) -> Sequence[int]:
    """Indices of the observations, out of `count`, that a step uses.

    These are the first one and, alternately, the odd or the even ones of the others. The final
    `full_subset_steps` use all. So does every step with fewer than three neighbours, as one neighbour alone
    does not average out noise.
    """
    if step >= steps - full_subset_steps or count < 4:
        return range(count)
    return [0, *range(1 + step % 2, count, 2)]
