"""8-bit sRGB and linear RGB."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from freezeframe.data.srgb import linear_to_srgb, srgb_to_linear


def test_both_directions_are_inverse() -> None:
    codes = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    assert np.array_equal(linear_to_srgb(srgb_to_linear(codes)), codes)


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        linear_to_srgb(torch.full((3, 2, 2), float("nan")))
