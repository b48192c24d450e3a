"""One step of training: what is minimised, by which optimisers, and the slow average that is kept."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Inner = Callable[[str, Tensor], bool]
"""Whether a weight, by name and shape, is moved by Muon."""

NEAR = 1e-3  # codes in [0, 1] below which an error counts as its square
SMALL = 4 / 255  # mean errors of a patch below count as this
SPECTRAL = 0.1  # weight of errors seen as frequencies: blur is the loss of the high ones
MEMORY = 0.999  # of the average over steps
CLIPPED = 1.0  # norm of the gradient
WARM = 200  # steps until full pace
LEAST = 16  # rows and columns of a matrix whose gradient has directions to balance
LAST = 0.01  # of the pace at the end


def loss(answer: Tensor, truth: Tensor, counts: Tensor | None = None) -> Tensor:
    """Charbonnier on codes and on their spectrum.

    Args:
        answer: [B, 3, H, W] codes. Not clamped: codes beyond black or white have a slope to come back on.
        truth: [B, 3, H, W] codes in [0, 1].
        counts: [B] how much each patch counts, see `worth`; None: all the same.
    """
    miss = (answer - truth).float()
    spectrum = torch.fft.rfft2(miss, norm="ortho").abs().mean((1, 2, 3))
    each = (miss.square() + NEAR**2).sqrt().mean((1, 2, 3)) + SPECTRAL * spectrum
    total: Tensor = each.mean() if counts is None else (counts * each).sum() / counts.sum()
    return total


def worth(start: Tensor, truth: Tensor) -> Tensor:
    """How much each patch counts, [B]: the better it was to `start` with, the more a code of error.

    Takes no gradient.

    Else a few hard patches are all that is learned, and what was nearly right is made worse. The square root:
    halfway between counting codes and counting decibels.
    """
    error = (start - truth).float().abs().mean((1, 2, 3))
    return error.clamp_min(SMALL).rsqrt()


def coders(name: str, weight: Tensor) -> bool:
    """The convolutions of encoders and decoders."""
    return weight.ndim == 4 and "coders" in name


def matrices(name: str, weight: Tensor) -> bool:
    """All that mixes many channels into many: not the layers that pictures enter and leave by."""
    return weight.ndim in (2, 4) and min(weight.flatten(1).shape) >= LEAST


class Optimisers:
    """Muon for the inner convolutions, whose gradients have few directions; AdamW for the rest.

    Muon (Jordan et al. 2024) takes matrices: a kernel is seen as one row per output channel.
    """

    def __init__(self, network: nn.Module, *, pace: float, inner: Inner = coders) -> None:
        named = dict(network.named_parameters())
        self.kernels = [named[name] for name in sorted(named) if inner(name, named[name])]
        self.matrices = [kernel.data.flatten(1) for kernel in self.kernels]
        rest = [p for name, p in named.items() if not inner(name, p)]
        self.muon = torch.optim.Muon(
            self.matrices, lr=pace, weight_decay=1e-3, adjust_lr_fn="match_rms_adamw"
        )
        self.adam = torch.optim.AdamW(rest, lr=pace, weight_decay=1e-4, betas=(0.9, 0.99), fused=True)
        self.pace = pace

    def step(self, *, share: float) -> None:
        """Move the weights along their gradients at `share` of the full pace."""
        for matrix, kernel in zip(self.matrices, self.kernels, strict=True):
            matrix.grad = None if kernel.grad is None else kernel.grad.flatten(1)
        for optimiser in (self.muon, self.adam):
            for group in optimiser.param_groups:
                group["lr"] = self.pace * share
            optimiser.step()  # type: ignore[no-untyped-call]

    def state_dict(self) -> dict[str, Any]:
        return {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])


def pace_at(step: int, steps: int) -> float:
    """Warm up, then fall along a cosine."""
    warm = min(1.0, (step + 1) / WARM)
    return warm * (LAST + (1 - LAST) * 0.5 * (1 + math.cos(math.pi * step / steps)))


def averaged(network: nn.Module) -> nn.Module:
    """A copy that will follow `network` slowly."""
    return copy.deepcopy(network).eval().requires_grad_(False)


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, *, step: int) -> None:
    """Move the average towards the network; faster at first, so that it forgets where it came from."""
    memory = min(MEMORY, (1 + step) / (10 + step))
    for slow, fast in zip(average.parameters(), network.parameters(), strict=True):
        slow.lerp_(fast, 1 - memory)
