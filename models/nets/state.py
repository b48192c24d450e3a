"""From a state dict to a network: hyper-parameters from keys and shapes, weights by strict loading."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

Net = TypeVar("Net", bound=nn.Module)


def load_network(build: Callable[[], Net], state: Mapping[str, Tensor]) -> Net:
    """Build a network and fill it with weights, in evaluation mode and without gradients.

    Args:
        build: Returns the network; its modules are made on the meta device.
        state: One tensor per key of the network, in any number format; each is cast to the network's own.

    Raises:
        RuntimeError: A key is missing or unexpected, or a shape differs; the message names it.
    """
    # The meta device allocates nothing and draws no initial weights, which loading would replace at once.
    with torch.device("meta"):
        network = build()
    dtypes = {key: value.dtype for key, value in network.state_dict().items()}
    weights = {key: value.to(dtypes.get(key, value.dtype)) for key, value in state.items()}
    network.load_state_dict(weights, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def simplest_ratio(hidden: Mapping[int, int]) -> float:
    """Find the shortest decimal number g with int(channels g) = hidden for every pair of `hidden`.

    Raises:
        ValueError: No number gives all these sizes.
    """
    low = max(inner / channels for channels, inner in hidden.items())
    for digits in range(8):
        steps = 10.0**digits
        first = math.ceil(low * steps)
        for expansion in (first / steps, (first + 1) / steps):
            # Checked because of rounding: 60 * 2.05 is 122.99999999999999.
            if all(int(c * expansion) == inner for c, inner in hidden.items()):
                return expansion
    raise ValueError(f"no expansion gives the feed-forward widths {dict(hidden)}")
