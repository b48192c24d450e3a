"""One step of training: what is minimised, by which optimisers, and the slow average that is kept."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

ParameterFilter = Callable[[str, Tensor], bool]
"""Whether a weight, by name and shape, is moved by Muon."""

CHARBONNIER_EPS = 1e-3  # codes in [0, 1] below which an error counts as its square
MIN_MEAN_ERROR = 4 / 255  # mean errors of a patch below count as this
SPECTRAL_WEIGHT = 0.1  # weight of errors seen as frequencies: blur is the loss of the high ones
EMA_DECAY = 0.999  # of the average over steps
GRAD_CLIP_NORM = 1.0  # norm of the gradient
WARMUP_STEPS = 200  # steps until full pace
MIN_MATRIX_DIM = 16  # rows and columns of a matrix whose gradient has directions to balance
FINAL_LR_RATIO = 0.01  # of the pace at the end


def charbonnier_spectral_loss(output: Tensor, truth: Tensor, weights: Tensor | None = None) -> Tensor:
    """Charbonnier on codes and on their spectrum.

    Args:
        output: [B, 3, H, W] codes. Not clamped: codes beyond black or white have a slope to come back on.
        truth: [B, 3, H, W] codes in [0, 1].
        weights: [B] how much each patch counts, see `sample_weights`; None: all the same.
    """
    error = (output - truth).float()
    spectrum = torch.fft.rfft2(error, norm="ortho").abs().mean((1, 2, 3))
    per_patch = (error.square() + CHARBONNIER_EPS**2).sqrt().mean((1, 2, 3)) + SPECTRAL_WEIGHT * spectrum
    total: Tensor = per_patch.mean() if weights is None else (weights * per_patch).sum() / weights.sum()
    return total


def sample_weights(start: Tensor, truth: Tensor) -> Tensor:
    """How much each patch counts, [B]: the better it was to `start` with, the more a code of error.

    Takes no gradient.

    Else a few hard patches are all that is learned, and what was nearly right is made worse. The square root:
    halfway between counting codes and counting decibels.
    """
    error = (start - truth).float().abs().mean((1, 2, 3))
    return error.clamp_min(MIN_MEAN_ERROR).rsqrt()


def is_coder_weight(name: str, weight: Tensor) -> bool:
    """The convolutions of encoders and decoders."""
    return weight.ndim == 4 and "coders" in name


def is_matrix_weight(name: str, weight: Tensor) -> bool:
    """All that mixes many channels into many: not the layers that pictures enter and leave by."""
    return weight.ndim in (2, 4) and min(weight.flatten(1).shape) >= MIN_MATRIX_DIM


class Optimizers:
    """Muon for the inner convolutions, whose gradients have few directions; AdamW for the rest.

    Muon (Jordan et al. 2024) takes matrices: a kernel is seen as one row per output channel.
    """

    def __init__(
        self, network: nn.Module, *, lr: float, uses_muon: ParameterFilter = is_coder_weight
    ) -> None:
        named = dict(network.named_parameters())
        self.kernels = [named[name] for name in sorted(named) if uses_muon(name, named[name])]
        self.matrices = [kernel.data.flatten(1) for kernel in self.kernels]
        rest = [p for name, p in named.items() if not uses_muon(name, p)]
        self.muon = torch.optim.Muon(self.matrices, lr=lr, weight_decay=1e-3, adjust_lr_fn="match_rms_adamw")
        self.adam = torch.optim.AdamW(rest, lr=lr, weight_decay=1e-4, betas=(0.9, 0.99), fused=True)
        self.lr = lr

    def step(self, *, lr_scale: float) -> None:
        """Move the weights along their gradients at `lr_scale` of the full pace."""
        for matrix, kernel in zip(self.matrices, self.kernels, strict=True):
            matrix.grad = None if kernel.grad is None else kernel.grad.flatten(1)
        for optimizer in (self.muon, self.adam):
            for group in optimizer.param_groups:
                group["lr"] = self.lr * lr_scale
            optimizer.step()  # type: ignore[no-untyped-call]

    def state_dict(self) -> dict[str, Any]:
        return {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])


def lr_schedule(step: int, steps: int) -> float:
    """Warm up, then fall along a cosine."""
    warmup = min(1.0, (step + 1) / WARMUP_STEPS)
    return warmup * (FINAL_LR_RATIO + (1 - FINAL_LR_RATIO) * 0.5 * (1 + math.cos(math.pi * step / steps)))


def ema_copy(network: nn.Module) -> nn.Module:
    """A copy that will follow `network` slowly."""
    return copy.deepcopy(network).eval().requires_grad_(False)


@torch.no_grad()
def ema_update(average: nn.Module, network: nn.Module, *, step: int) -> None:
    """Move the average towards the network; faster at first, so that it forgets where it came from."""
    decay = min(EMA_DECAY, (1 + step) / (10 + step))
    for ema_weight, weight in zip(average.parameters(), network.parameters(), strict=True):
        ema_weight.lerp_(weight, 1 - decay)
