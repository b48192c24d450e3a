from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from freezeframe.models.nets.state import load_network, simplest_ratio
from freezeframe.models.store.state_dict import count_keys


@settings(deadline=None)
@given(st.integers(100, 800), st.lists(st.integers(1, 400), min_size=1, max_size=5))
def test_the_growth_that_is_read_makes_the_same_sizes(hundredths, widths):
    hidden = {width: int(width * (hundredths / 100)) for width in widths}
    expansion = simplest_ratio(hidden)
    assert {width: int(width * expansion) for width in widths} == hidden
    # No more digits than the number that gave them.
    assert len(str(expansion)) <= max(len(str(hundredths / 100)), 3)


def test_sizes_that_no_growth_makes_are_refused():
    with pytest.raises(ValueError, match="no expansion gives"):
        simplest_ratio({48: 127, 96: 300})


def test_blocks_are_counted_by_the_names_after_the_prefix():
    state = dict.fromkeys(("a.0.weight", "a.0.bias", "a.10.weight", "ab.1.weight", "b.2.weight"))
    assert (count_keys(state, "a."), count_keys(state, "ab."), count_keys(state, "c.")) == (2, 1, 0)


def test_weights_of_any_number_format_become_those_of_the_network():
    """Whole numbers stay whole: some networks index by what their files hold."""

    def build() -> nn.Module:
        network = nn.Linear(2, 1)
        network.register_buffer("index", torch.zeros(3, dtype=torch.int64))
        return network

    state = {
        "weight": torch.ones(1, 2).half(),
        "bias": torch.ones(1).double(),
        "index": torch.arange(3).int(),
    }
    network = load_network(build, state)
    assert {key: value.dtype for key, value in network.state_dict().items()} == {
        "weight": torch.float32,
        "bias": torch.float32,
        "index": torch.int64,
    }
    assert network.index.tolist() == [0, 1, 2]
    assert not network.training
    assert not any(value.requires_grad for value in network.parameters())
