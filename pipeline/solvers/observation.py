"""The forward model of the solvers: one recorded frame as a blurred view of the sharp image."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One recorded frame, and the blur that turns the sharp image into it."""

    linear: Tensor  # [C, H, W] linear light, as recorded
    offset: Tensor | None  # [2, H, W] pixels, to the centre of each blur vector in the sharp image; None is 0
    blur_vector: Tensor  # [2, H, W] pixels of motion during the exposure
    weight: Tensor  # [H, W] in [0, 1]
