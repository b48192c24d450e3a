"""From noise to a latent in a few steps (arXiv 2006.11239; learned variance 2102.09672).

A latent at step t is sqrt(a_t) clean + sqrt(1 - a_t) noise, where a_t falls from almost 1 to almost 0 over
1000 training steps. Of these some are visited; at each, what the network takes for noise tells a clean latent
and from it a latent of the step before.
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
"""A latent [1, C, h, w] and its training step, to predicted noise and uncertainty [1, 2C, h, w]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The training steps that are visited, least noise first, and how much of the clean latent each keeps."""

    steps: tuple[int, ...]
    alpha_bar: tuple[float, ...]  # a_t

    def __post_init__(self) -> None:
        if not 1 <= len(self.steps) <= TRAINING_STEPS:
            raise ValueError(f"1 to {TRAINING_STEPS} steps can be visited, not {len(self.steps)}")

    def previous_alpha_bar(self, i: int) -> float:
        """What the visited step before number `i` keeps; 1 before the first: no noise at all."""
        return self.alpha_bar[i - 1] if i else 1.0


def schedule(count: int) -> Schedule:
    """`count` steps spread evenly from the first to the last; one alone is the last."""
    if not 1 <= count <= TRAINING_STEPS:
        raise ValueError(f"1 to {TRAINING_STEPS} steps can be visited, not {count}")
    betas = np.linspace(*FIRST_AND_LAST_BETA, TRAINING_STEPS)
    alpha_bar = np.cumprod(1 - betas)
    last = TRAINING_STEPS - 1
    steps = [last] if count == 1 else [round(i * last / (count - 1)) for i in range(count)]
    return Schedule(steps=tuple(steps), alpha_bar=tuple(float(alpha_bar[step]) for step in steps))


def add_noise(clean: Tensor, noise: Tensor, *, alpha_bar: float) -> Tensor:
    """sqrt(kept) clean + sqrt(1 - kept) noise: a latent as training showed it."""
    return math.sqrt(alpha_bar) * clean + math.sqrt(1 - alpha_bar) * noise


def predict_clean(latent: Tensor, noise: Tensor, *, alpha_bar: float) -> Tensor:
    """The clean latent, were `noise` the noise; the inverse of `add_noise`."""
    return (latent - math.sqrt(1 - alpha_bar) * noise) / math.sqrt(alpha_bar)


def sample(
    denoise: Denoise, start: Tensor, plan: Schedule, *, generator: torch.Generator, sampler: Sampler = "ddpm"
) -> Tensor:
    """A clean latent, drawn. Takes no gradient.

    Args:
        denoise: Called once per visited step, most noise first.
        start: A latent at the last visited step. [1, C, h, w].
        plan: From `schedule`.
        generator: On the CPU: one seed gives one picture on every device.
        sampler: "ddpm" adds noise of the predicted uncertainty at every step, as the release does; "ddim"
            adds none (Song et al. 2020, arXiv 2010.02502) and ignores the uncertainty.
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
    """The latent one visited step earlier, its noise the same. `alpha_bar` here and there."""
    current, previous = alpha_bar
    return add_noise(predict_clean(latent, noise, alpha_bar=current), noise, alpha_bar=previous)


def ddpm_step(
    latent: Tensor, noise: Tensor, uncertainty: Tensor, *, plan: Schedule, i: int
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the latent one visited step earlier. Takes no gradient.

    The network's `uncertainty`, from -1 to 1, lies between the logarithms of the smallest and of the largest
    variance possible: that of a clean latent known exactly, and that of one of which nothing is known.
    """
    current, previous = plan.alpha_bar[i], plan.previous_alpha_bar(i)
    beta = 1 - current / previous
    clean = predict_clean(latent, noise, alpha_bar=current)
    of_clean, of_latent = math.sqrt(previous) * beta, math.sqrt(current / previous) * (1 - previous)
    mean = (of_clean * clean + of_latent * latent) / (1 - current)
    fraction = (uncertainty + 1) / 2
    log_variance = fraction * math.log(beta) + (1 - fraction) * math.log(posterior_variance(plan, i))
    return mean, (log_variance / 2).exp()


def posterior_variance(plan: Schedule, i: int) -> float:
    """The variance one visited step earlier where the clean latent is known.

    It is 0 before the first step, which has no logarithm: the second's is taken, as in the release.
    """
    i = min(max(i, 1), len(plan.steps) - 1)
    current, previous = plan.alpha_bar[i], plan.previous_alpha_bar(i)
    return (1 - previous) / (1 - current) * (1 - current / previous) or 1 - current


def guided(conditional: Tensor, unconditional: Tensor, *, scale: float, channels: int) -> Tensor:
    """A prediction led away from what it would be without a caption; scale 1 is the conditional branch.

    Args:
        conditional: Predicted noise and uncertainty. [B, 2C, h, w].
        unconditional: The same without caption.
        scale: How far.
        channels: The first of them are led; the others, the uncertainty always among them, stay conditional.
    """
    guided_part = unconditional + scale * (conditional - unconditional)
    return torch.cat([guided_part[:, :channels], conditional[:, channels:]], dim=1)
