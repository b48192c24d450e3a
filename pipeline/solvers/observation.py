"""What a solver explains: one frame, and how the sharp picture turned into it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One frame, and how the sharp picture turned into it."""

    linear: Tensor  # [C, H, W] linear light, as recorded
    offset: Tensor | None  # [2, H, W] pixels: where in the sharp picture a pixel's way has its middle
    blur_vector: Tensor  # [2, H, W] pixels travelled while the shutter was open
    weight: Tensor  # [H, W] in [0, 1]
