"""One step of training: loss, optimisers, learning rate schedule, and the moving average of the weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

ParameterFilter = Callable[[str, Tensor], bool]
"""Whether Muon optimises a weight, by its name and shape."""

CHARBONNIER_EPS = 1e-3  # encoded error below which the loss is quadratic
MIN_MEAN_ERROR = 4 / 255  # lower bound of a patch's mean error in its weight
SPECTRAL_WEIGHT = 0.1  # weight of the spectral error: blur is the loss of high frequencies
GRAD_CLIP_NORM = 1.0  # largest norm of the gradient
MIN_MATRIX_DIM = 16  # smallest rows and columns of a matrix for Muon, which balances its singular values


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Learning rate over the steps, and the decay of the average of the weights."""

    warmup_steps: int = 200  # steps of linear warm-up
    final_lr_ratio: float = 0.01  # learning rate at the end, over the peak
    ema_decay: float = 0.999  # of the exponential moving average of the weights


DEFAULT_SCHEDULE = Schedule()


def charbonnier_spectral_loss(
    output: Tensor, truth: Tensor, weights: Tensor | None = None, *, pixel_weights: Tensor | None = None
) -> Tensor:
    """Charbonnier loss of encoded values, plus the L1 loss of their spectrum.

    Args:
        output: [B, 3, H, W] encoded, not clamped: values beyond black or white keep a gradient.
        truth: [B, 3, H, W] encoded in [0, 1].
        weights: [B] weight of each patch, see `sample_weights`; None: equal.
        pixel_weights: [B, 1, H, W] weight of each pixel in the Charbonnier loss, see `mover_weights`;
            None: equal.
    """
    error = (output - truth).float()
    spectrum = torch.fft.rfft2(error, norm="ortho").abs().mean((1, 2, 3))
    per_pixel = (error.square() + CHARBONNIER_EPS**2).sqrt()
    if pixel_weights is not None:
        per_pixel = pixel_weights * per_pixel
    per_patch = per_pixel.mean((1, 2, 3)) + SPECTRAL_WEIGHT * spectrum
    total: Tensor = per_patch.mean() if weights is None else (weights * per_patch).sum() / weights.sum()
    return total


def sample_weights(start: Tensor, truth: Tensor) -> Tensor:
    """Weight of each patch, [B]: the inverse square root of the mean error of `start`. Takes no gradient.

    Without weights a few hard patches dominate the loss, and nearly correct patches get worse. The square
    root is halfway between absolute and relative errors.
    """
    error = (start - truth).float().abs().mean((1, 2, 3))
    return error.clamp_min(MIN_MEAN_ERROR).rsqrt()


def mover_weights(movers: Tensor, *, ratio: float) -> Tensor:
    """Weight of each pixel, as `movers` [B, 1, H, W] in [0, 1]: inside `ratio` times outside, 1 on average.

    Small movers have few pixels: without weights the loss is that of the background.
    """
    weights = 1 + (ratio - 1) * movers
    return weights / weights.mean()


def is_coder_weight(name: str, weight: Tensor) -> bool:
    """Whether a weight is a convolution of the encoders or decoders."""
    return weight.ndim == 4 and "coders" in name


def is_matrix_weight(name: str, weight: Tensor) -> bool:
    """Whether a weight maps many channels to many: not the first and last layers."""
    return weight.ndim in (2, 4) and min(weight.flatten(1).shape) >= MIN_MATRIX_DIM


class Optimizers:
    """Muon for the inner convolutions, whose gradients are nearly of low rank; AdamW for the rest.

    Muon (Jordan et al. 2024) optimises matrices: a kernel has one row per output channel.
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
        """Update the weights by their gradients, at `lr_scale` times the peak learning rate."""
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


def lr_schedule(step: int, steps: int, schedule: Schedule = DEFAULT_SCHEDULE) -> float:
    """Learning rate of a step over the peak: linear warm-up, then cosine decay."""
    warmup, final = min(1.0, (step + 1) / schedule.warmup_steps), schedule.final_lr_ratio
    return warmup * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * step / steps)))


def ema_copy(network: nn.Module) -> nn.Module:
    """A copy of `network` for its exponential moving average."""
    return copy.deepcopy(network).eval().requires_grad_(False)


@torch.no_grad()
def ema_update(
    average: nn.Module, network: nn.Module, *, step: int, decay: float = DEFAULT_SCHEDULE.ema_decay
) -> None:
    """Update the moving average of the weights; the decay is smaller at first, to forget the initial ones."""
    decay = min(decay, (1 + step) / (10 + step))
    for ema_weight, weight in zip(average.parameters(), network.parameters(), strict=True):
        ema_weight.lerp_(weight, 1 - decay)
