from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from freezeframe.models.imageops.padding import pad_to_multiple, reflect_pad


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 20), st.integers(0, 20), st.booleans())
def test_mirroring_against_numpy(height, width, below, right, twice):
    x = torch.arange(float(height * width)).reshape(1, height, width)
    mode = "symmetric" if twice else "reflect"
    expected = np.pad(x.numpy(), ((0, 0), (0, below), (0, right)), mode=mode)
    got = reflect_pad(x, height=height + below, width=width + right, mode="twice" if twice else "reflect")
    assert np.array_equal(got.numpy(), expected)


def test_a_picture_that_fits_is_not_copied():
    x = torch.rand(1, 3, 16, 24)
    assert pad_to_multiple(x, 8) is x
