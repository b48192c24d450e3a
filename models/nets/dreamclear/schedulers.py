"""DDPM and DDIM sampling on a subset of the training steps (arXiv 2006.11239; learned variance 2102.09672).

A latent at step t is sqrt(a_t) clean + sqrt(1 - a_t) noise, where a_t falls from almost 1 to almost 0 over
1000 training steps. Some of these are visited; at each, the predicted noise gives an estimate of the clean
latent, and that gives a latent of the visited step before.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

TRAINING_STEPS = 1000
FIRST_AND_LAST_BETA = (1e-4, 0.02)

Sampler = Literal["ddpm", "ddim"]

Denoise = Callable[[Tensor, int], Tensor]
"""Maps a latent [1, C, h, w] and its training step to predicted noise and uncertainty [1, 2C, h, w]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The visited training steps, least noise first, and their noise levels."""

    steps: tuple[int, ...]
    alpha_bar: tuple[float, ...]  # a_t

    def __post_init__(self) -> None:
        if not 1 <= len(self.steps) <= TRAINING_STEPS:
            raise ValueError(f"{len(self.steps)} steps: give 1 to {TRAINING_STEPS}")

    def previous_alpha_bar(self, i: int) -> float:
        """Return a_t of the visited step before number `i`; 1 before the first, which has no noise."""
        return self.alpha_bar[i - 1] if i else 1.0


def schedule(count: int) -> Schedule:
    """Choose `count` steps at even distances from the first to the last; a single one is the last."""
    if not 1 <= count <= TRAINING_STEPS:
        raise ValueError(f"{count} steps: give 1 to {TRAINING_STEPS}")
    betas = np.linspace(*FIRST_AND_LAST_BETA, TRAINING_STEPS)
    alpha_bar = np.cumprod(1 - betas)
    last = TRAINING_STEPS - 1
    steps = [last] if count == 1 else [round(i * last / (count - 1)) for i in range(count)]
    return Schedule(steps=tuple(steps), alpha_bar=tuple(float(alpha_bar[step]) for step in steps))


def add_noise(clean: Tensor, noise: Tensor, *, alpha_bar: float) -> Tensor:
    """Compute sqrt(alpha_bar) clean + sqrt(1 - alpha_bar) noise, a latent as in training."""
    return math.sqrt(alpha_bar) * clean + math.sqrt(1 - alpha_bar) * noise


def predict_clean(latent: Tensor, noise: Tensor, *, alpha_bar: float) -> Tensor:
    """Invert `add_noise`, given the noise."""
    return (latent - math.sqrt(1 - alpha_bar) * noise) / math.sqrt(alpha_bar)


def sample(
    denoise: Denoise, start: Tensor, plan: Schedule, *, generator: torch.Generator, sampler: Sampler = "ddpm"
) -> Tensor:
    """Sample a clean latent. Takes no gradient.

    Args:
        denoise: Called once per visited step, most noise first.
        start: A latent at the last visited step. [1, C, h, w].
        plan: From `schedule`.
        generator: On the CPU: a seed gives the same noise on every device.
        sampler: "ddpm" adds noise of the predicted variance at every step, as the release does; "ddim"
            (Song et al. 2020, arXiv 2010.02502) adds none and ignores the uncertainty.
    """
    latent = start
    for i in reversed(range(len(plan.steps))):
        noise, uncertainty = denoise(latent, plan.steps[i]).chunk(2, dim=1)
        if sampler == "ddim":
            latent = ddim_step(latent, noise, alpha_bar=(plan.alpha_bar[i], plan.previous_alpha_bar(i)))
            continue
        fresh = torch.randn(latent.shape, generator=generator).to(latent) if i else torch.zeros_like(latent)
        mean, deviation = ddpm_step(latent, noise, uncertainty, plan=plan, i=i)
        latent = mean + deviation * fresh
    return latent


def ddim_step(latent: Tensor, noise: Tensor, *, alpha_bar: tuple[float, float]) -> Tensor:
    """Move a latent to the visited step before, with the same noise. `alpha_bar`: current and previous."""
    current, previous = alpha_bar
    return add_noise(predict_clean(latent, noise, alpha_bar=current), noise, alpha_bar=previous)


def ddpm_step(
    latent: Tensor, noise: Tensor, uncertainty: Tensor, *, plan: Schedule, i: int
) -> tuple[Tensor, Tensor]:
    """Compute mean and standard deviation of the latent at the visited step before. Takes no gradient.

    `uncertainty`, from -1 to 1, interpolates between the logarithms of the smallest and the largest possible
    variance: that for a known clean latent (`posterior_variance`), and beta.
    """
    current, previous = plan.alpha_bar[i], plan.previous_alpha_bar(i)
    beta = 1 - current / previous
    clean = predict_clean(latent, noise, alpha_bar=current)
    clean_weight = math.sqrt(previous) * beta
    latent_weight = math.sqrt(current / previous) * (1 - previous)
    mean = (clean_weight * clean + latent_weight * latent) / (1 - current)
    fraction = (uncertainty + 1) / 2
    log_variance = fraction * math.log(beta) + (1 - fraction) * math.log(posterior_variance(plan, i))
    return mean, (log_variance / 2).exp()


def posterior_variance(plan: Schedule, i: int) -> float:
    """Compute the variance at the visited step before, given the clean latent.

    Before the first step it is 0, whose logarithm is infinite: that of the second step replaces it, as in
    the release.
    """
    i = min(max(i, 1), len(plan.steps) - 1)
    current, previous = plan.alpha_bar[i], plan.previous_alpha_bar(i)
    return (1 - previous) / (1 - current) * (1 - current / previous) or 1 - current


def guided(conditional: Tensor, unconditional: Tensor, *, scale: float, channels: int) -> Tensor:
    """Apply classifier-free guidance; scale 1 is the conditional branch.

    Args:
        conditional: Predicted noise and uncertainty. [B, 2C, h, w].
        unconditional: The same without caption.
        scale: Of the guidance.
        channels: Number of first channels that are guided. The others, among them always the uncertainty,
            are those of the conditional branch.
    """
    guided_part = unconditional + scale * (conditional - unconditional)
    return torch.cat([guided_part[:, :channels], conditional[:, channels:]], dim=1)
