"""Second implementations, written as the sums that define the operations."""

from __future__ import annotations

from itertools import product

import numpy as np


def naive_conv(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """[C, H, W] with zeros around it under [out, in, k, k], as the sum that defines it."""
    out, inside, side, _ = kernel.shape
    groups = len(x) // inside
    padded = np.pad(x, ((0, 0), (side // 2,) * 2, (side // 2,) * 2))
    result = np.zeros((out, *x.shape[1:]))
    for o, i, y, z in product(range(out), range(inside), range(side), range(side)):
        source = o // (out // groups) * inside + i
        result[o] += kernel[o, i, y, z] * padded[source, y : y + x.shape[1], z : z + x.shape[2]]
    return result
