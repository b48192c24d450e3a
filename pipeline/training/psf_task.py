"""What the estimator of blur learns: photographs blurred along lines, by hands and by lenses, and how.

Nothing here takes a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from freezeframe.data.color import SRGB, to_light, to_signal
from freezeframe.data.synthesis.clips.clips import pictures_in
from freezeframe.data.synthesis.degradations.psf import blurred, disk_kernel, line_kernel, shake_kernel
from freezeframe.data.synthesis.degradations.sensor import compressed, gaussian_noise, shot_noise
from freezeframe.data.synthesis.scene2d.patterns import Chance, Codes
from freezeframe.models.deblur.psf_estimator import LAGS, RADII, REACH, STEP, WINDOW, BlurEstimator, cepstrum

from .loop import Trial
from .objective import matrices
from .restorer_task import as_codes, cut, middle

LONGEST, WIDEST = 18.0, 5.0  # pixels

Truth = tuple[float, float, float]
"""The straight way (y, x) that a kernel is most like, and its radius. Pixels."""

Drawn = tuple[Tensor, Truth]
"""A kernel, and what it is."""


@dataclass(frozen=True, slots=True)
class Blurs:
    """Cepstra of patches, with what blurred them."""

    pictures: Sequence[Codes]
    size: int
    patch: int
    seed: int
    judged: Path | None = None
    inner = staticmethod(matrices)

    def network(self) -> nn.Module:
        return BlurEstimator()

    def batch(self, step: int, *, rank: int) -> Tensor:
        """[B, LAGS * LAGS + 3]: a cepstrum, the way in y and x, and the radius."""
        rng = np.random.default_rng((self.seed, rank, step, 7))
        made = [self._one(rng) for _ in range(self.size)]
        echoes = cepstrum(torch.stack([codes for codes, _ in made])).flatten(1)
        return torch.cat([echoes, torch.tensor([told for _, told in made])], 1)

    def miss(self, model: nn.Module, batch: Tensor) -> Tensor:
        """Cross-entropy of both answers."""
        ways, radii = model(batch[:, :-3].reshape(-1, LAGS, LAGS))
        wanted, width = shares(batch[:, -3:-1]), shares_of_radius(batch[:, -1])
        total: Tensor = -(ways * wanted).sum((1, 2)).mean() - (radii * width).sum(1).mean()
        return total

    def trials(self) -> list[Trial]:
        if self.judged is None:
            return []
        photos = [middle(as_codes(codes), 2 * WINDOW) for codes in pictures_in(self.judged)]
        return [lambda network: likelihoods(network, photos)]

    def _one(self, rng: Chance) -> Drawn:
        light = to_light(as_codes(cut(rng, self.pictures, side=self.patch)), SRGB)
        kernel, told = drawn(rng)
        codes = to_signal(blurred(light, kernel).clamp(0, 1), SRGB)
        return recorded(rng, codes), told


def _line(rng: Chance) -> Drawn:
    length, angle = float(rng.uniform(1, LONGEST)), float(rng.uniform(0, math.pi))
    return line_kernel(length, angle=angle), (length * math.sin(angle), length * math.cos(angle), 0.0)


def _shaken(rng: Chance) -> Drawn:
    kernel = shake_kernel(float(rng.uniform(1, LONGEST)), seed=int(rng.integers(2**31)))
    return kernel, (*straight(kernel), 0.0)


def _disk(rng: Chance) -> Drawn:
    radius = float(rng.uniform(0.6, WIDEST))
    return disk_kernel(radius), (0.0, 0.0, radius)


def _none(rng: Chance) -> Drawn:
    return torch.ones(1, 1), (0.0, 0.0, 0.0)


# How often each is drawn.
BLURS: dict[str, tuple[float, Callable[[Chance], Drawn]]] = {
    "line": (0.45, _line), "shake": (0.12, _shaken), "disk": (0.18, _disk), "sharp": (0.25, _none)
}  # fmt: skip


def drawn(rng: Chance) -> Drawn:
    """One of `BLURS`."""
    name = rng.choice(list(BLURS), p=[share for share, _ in BLURS.values()])
    return BLURS[name][1](rng)


def straight(kernel: Tensor) -> tuple[float, float]:
    """The line (y, x), in pixels, that spreads light as far as `kernel` [K, K] does where it is widest."""
    at = torch.arange(len(kernel)).double() - len(kernel) // 2
    weights = kernel.double()
    y, x = at[:, None].expand_as(weights), at.expand_as(weights)
    y, x = y - (weights * y).sum(), x - (weights * x).sum()
    spread = torch.stack([(weights * a * b).sum() for a, b in ((y, y), (y, x), (x, x))])
    values, axes = torch.linalg.eigh(spread[[0, 1, 1, 2]].reshape(2, 2))
    # An even line of length L has variance L^2 / 12; drawing it between pixels adds 1 / 6.
    length = float((12 * values[1] - 2).clamp_min(0).sqrt())
    return length * float(axes[0, 1]), length * float(axes[1, 1])


def recorded(rng: Chance, codes: Tensor) -> Tensor:
    """Photons, noise and JPEG now and then, then whole 255ths."""
    chance, strength, seed = rng.random(), float(rng.uniform(0, 1)), int(rng.integers(2**31))
    if chance < 0.15:
        codes = gaussian_noise(codes, sigma=strength**2 * 25 / 255, seed=seed)
    elif chance < 0.25:
        light = to_light(codes.clamp(0, 1), SRGB)
        codes = to_signal(shot_noise(light, strength=0.01 * strength**2, seed=seed).clamp(0, 1), SRGB)
    if rng.random() < 0.3:
        codes = compressed(codes.clamp(0, 1), quality=int(rng.integers(25, 99)))
    return (codes.clamp(0, 1) * 255).round() / 255


def shares(ways: Tensor) -> Tensor:
    """[B, 2] ways (y, x) as shares [B, LAGS, LAGS] of the whole lags around each, and around its opposite."""
    found = torch.zeros(len(ways), LAGS, LAGS, device=ways.device)
    rows = torch.arange(len(ways), device=ways.device)
    for sign in (1, -1):
        low = (sign * ways).clamp(-REACH, REACH - 1e-3).floor()
        part = (sign * ways) - low
        for dy in (0, 1):
            for dx in (0, 1):
                share = (part[:, 0] if dy else 1 - part[:, 0]) * (part[:, 1] if dx else 1 - part[:, 1])
                at = (low + low.new_tensor([dy, dx])).long() + REACH
                found.index_put_((rows, at[:, 0], at[:, 1]), share / 2, accumulate=True)
    return found


def shares_of_radius(radius: Tensor) -> Tensor:
    """[B] pixels as shares [B, RADII] of the two radii around each."""
    at = (radius / STEP).clamp(0, RADII - 1)
    return (1 - (at[:, None] - torch.arange(RADII, device=radius.device)).abs()).clamp_min(0)


def likelihoods(network: nn.Module, photos: Sequence[Tensor]) -> dict[str, float]:
    """Share of photos, 8 of each, whose way is told within 1.5 px, whose radius within 0.5 px."""
    rng = np.random.default_rng(0)
    found = {}
    for name, (_, make) in BLURS.items():
        hits = [_told(network, photo, *make(rng)) for photo in photos for _ in range(8)]
        found[name] = sum(hits) / len(hits)
    return found


def _told(network: nn.Module, photo: Tensor, kernel: Tensor, truth: Truth) -> bool:
    codes = to_signal(blurred(to_light(photo, SRGB), kernel).clamp(0, 1), SRGB)
    with torch.no_grad():
        ways, radii = network(cepstrum((codes * 255).round()[None] / 255))
    way, radius, wanted = best(ways[0]), STEP * float(radii[0].argmax()), torch.tensor(truth[:2])
    off = min(float((way - wanted).norm()), float((way + wanted).norm()))
    return off < 1.5 and abs(radius - truth[2]) <= STEP


def best(ways: Tensor) -> Tensor:
    """The likeliest way (y, x) of [LAGS, LAGS] logarithms, in pixels."""
    at = int(ways.argmax())
    return torch.tensor([at // LAGS - REACH, at % LAGS - REACH]).float()
