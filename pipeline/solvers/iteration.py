"""What the two implementations of Richardson-Lucy share: settings, and which observations a step uses."""

from __future__ import annotations

from collections.abc import Sequence

DARK = 1e-4  # linear light; less is noise, and a ratio of it means nothing
MIN_RATIO = 0.2  # of its light that a pixel keeps in one step, however far it is pushed
MOMENTUM = 0.3  # of the step before: of light's logarithm, as steps multiply. Of light itself: 0.3 dB worse
MAX_MOMENTUM_FACTOR = 1.22  # times as much light that momentum makes in one step
FULL_SUBSET_STEPS = 3  # last steps, which ask all: what one half said of noise, the other half takes back
PRIOR_WEIGHT = 1e-2  # belief in leaving a pixel as it is, against observations that barely see it


def ordered_subset(step: int, *, steps: int, count: int) -> Sequence[int]:
    """Which of `count` observations a step asks: the first and every other one after it, in turn.

    The last steps ask all, and so does every step with fewer than three neighbours: one alone says too little
    of what is noise.
    """
    if step >= steps - FULL_SUBSET_STEPS or count < 4:
        return range(count)
    return [0, *range(1 + step % 2, count, 2)]
