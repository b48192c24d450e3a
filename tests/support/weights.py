"""Random weights: at their initial ones and zeros, parts of a network would not be tested."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

Net = TypeVar("Net", bound=nn.Module)


def random_weights(network: Net, *, scale: float = 0.2, seed: int = 0) -> Net:
    """Draw every parameter from a normal distribution of deviation `scale`, and switch gradients off."""
    generator = torch.Generator().manual_seed(seed)
    for value in network.parameters():
        value.requires_grad_(False).copy_(scale * torch.randn(value.shape, generator=generator))
    return network.eval()


def fill_zeros(network: Net, *, scale: float = 0.1, seed: int = 0) -> Net:
    """Draw the parameters that are zero, and leave a fresh network's others as they are."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in network.parameters():
            if not value.any():
                value.copy_(scale * torch.randn(value.shape, generator=generator))
    return network


def random_images(*size: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    """Draw encoded values between 0 and 1."""
    return torch.rand(*size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def normal(*size: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    """Draw numbers of mean 0 and deviation 1."""
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=dtype)
