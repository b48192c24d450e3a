"""One picture made worse in a known way: pairs to train restorers on, and to judge them by.

Each degradation is a small function in the space where its law holds: blur, rain, haze, photons and darkness
in linear light, noise of a given sigma and JPEG on sRGB codes. Everything is decided by a seed.

Nothing here takes a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import cv2
import numpy as np
import torch
from torch import Tensor

from freezeframe.data.color import SRGB, to_encoded, to_linear

from .psf import convolve, disk_kernel, line_kernel, shake_kernel
from .sensor import compress_jpeg, gaussian_noise, shot_noise, simulate_low_light
from .weather import haze, rain

Kind = Literal[
    "clean", "noise", "shot", "jpeg", "motion", "shake", "defocus", "rain", "haze", "dark", "mixed", "uneven"
]
KINDS: tuple[Kind, ...] = get_args(Kind)

MIN_STRENGTH, MAX_STRENGTH = 0.1, 0.8  # strengths that are drawn where none is given
EVAL_STRENGTH = 0.5  # the strength that restorers are judged at: sigma 25, JPEG quality 20, 9 px of way
_ORDER: tuple[tuple[Kind, ...], ...] = (  # of what happens to light on its way into a file
    ("rain",),
    ("motion", "shake", "defocus"),
    ("noise", "shot"),
    ("jpeg",),
)

Step = Callable[[Tensor, float, int], Tensor]
"""sRGB codes, strength in (0, 1] and seed to sRGB codes, not rounded."""


def degrade(sharp: Tensor, kind: Kind, *, seed: int, strength: float | None = None) -> Tensor:
    """`sharp` as a file would hold it after it suffered.

    Args:
        sharp: [3, H, W] sRGB codes in [0, 1].
        kind: What happens to it; "mixed" is two to four of them in the order of nature (haze and
            darkness, which would hide all others, are not among them), "uneven" one that
            differs from place to place.
        seed: Chooses everything that is left open: places, directions, noise.
        strength: 0 leaves `sharp` as it is, 1 is the worst; None draws one.

    Returns:
        [3, H, W] sRGB codes, whole 255ths.
    """
    rng = np.random.default_rng((seed, KINDS.index(kind)))
    random_strength = float(rng.uniform(MIN_STRENGTH, MAX_STRENGTH))
    strength = random_strength if strength is None else strength
    if kind == "clean" or strength == 0:
        return sharp
    degraded = _STEPS[kind](sharp, strength, int(rng.integers(2**31)))
    return (degraded.clamp(0, 1) * 255).round() / 255


def _noise(encoded: Tensor, strength: float, seed: int) -> Tensor:
    return gaussian_noise(encoded, sigma=strength * 50 / 255, seed=seed)


def _jpeg(encoded: Tensor, strength: float, seed: int) -> Tensor:
    return compress_jpeg(encoded, quality=round(100 ** (1 - strength) * 4**strength))


def _motion(linear: Tensor, strength: float, seed: int) -> Tensor:
    angle = np.random.default_rng(seed).uniform(0, math.pi)
    return convolve(linear, line_kernel(18 * strength, angle=angle))


def _shake(linear: Tensor, strength: float, seed: int) -> Tensor:
    return convolve(linear, shake_kernel(24 * strength, seed=seed))


def _defocus(linear: Tensor, strength: float, seed: int) -> Tensor:
    return convolve(linear, disk_kernel(5 * strength))


def _shot(linear: Tensor, strength: float, seed: int) -> Tensor:
    return shot_noise(linear, strength=0.04 * strength**2, seed=seed)


def _rain(linear: Tensor, strength: float, seed: int) -> Tensor:
    return rain(linear, amount=strength, seed=seed)


def _haze(linear: Tensor, strength: float, seed: int) -> Tensor:
    return haze(linear, depth=2 * strength, seed=seed)


def _dark(linear: Tensor, strength: float, seed: int) -> Tensor:
    return simulate_low_light(linear, gain=10 ** (-1.5 * strength), seed=seed)


def _mixed(encoded: Tensor, strength: float, seed: int) -> Tensor:
    """Two to four groups of `_ORDER`, one of each, none as strong as it would be alone."""
    rng = np.random.default_rng(seed)
    chosen = sorted(rng.choice(4, int(rng.integers(2, 5)), replace=False, p=(0.16, 0.28, 0.28, 0.28)))
    for group in chosen:
        kind = _ORDER[group][int(rng.integers(len(_ORDER[group])))]
        part_strength = strength * float(rng.uniform(0.4, 0.9))
        encoded = _STEPS[kind](encoded, part_strength, int(rng.integers(2**31)))
    return encoded


def _spatially_varying(encoded: Tensor, strength: float, seed: int) -> Tensor:
    """One degradation that comes and goes over the picture."""
    rng = np.random.default_rng(seed)
    kind = rng.choice([kind for kind in KINDS if kind not in ("clean", "mixed", "uneven", "dark")])
    degraded = _STEPS[kind](encoded, strength, int(rng.integers(2**31)))
    return torch.lerp(encoded, degraded, _random_mask(encoded.shape[1:], rng))


def _random_mask(size: torch.Size, rng: np.random.Generator) -> Tensor:
    """A smooth mask [H, W] in [0, 1], about half of it at either end."""
    coarse = rng.normal(0, 1.5, (4, 4)).astype(np.float32)
    smooth = cv2.resize(coarse, tuple(size)[::-1], interpolation=cv2.INTER_CUBIC)
    return torch.from_numpy(np.clip(0.5 + smooth, 0, 1))


def _in_linear(step: Step) -> Step:
    """`step` of linear light as one of codes."""

    def on_encoded(encoded: Tensor, strength: float, seed: int) -> Tensor:
        return to_encoded(step(to_linear(encoded, SRGB), strength, seed).clamp(0, 1), SRGB)

    return on_encoded


_STEPS: dict[Kind, Step] = {
    "noise": _noise,
    "shot": _in_linear(_shot),
    "jpeg": _jpeg,
    "motion": _in_linear(_motion),
    "shake": _in_linear(_shake),
    "defocus": _in_linear(_defocus),
    "rain": _in_linear(_rain),
    "haze": _in_linear(_haze),
    "dark": _in_linear(_dark),
    "mixed": _mixed,
    "uneven": _spatially_varying,
}
