"""Degradations of single images, for training and evaluation of restorers.

Each degradation is applied in the space where its law holds: blur, rain, haze, photon noise and low light in
linear light, white noise and JPEG in sRGB. All are deterministic functions of a seed.

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

from .codec import compress_jpeg
from .psf import convolve, disk_kernel, line_kernel, shake_kernel
from .sensor import gaussian_noise, shot_noise, simulate_low_light
from .weather import haze, rain

Kind = Literal[
    "clean", "noise", "shot", "jpeg", "motion", "shake", "defocus", "rain", "haze", "dark", "mixed", "uneven"
]
KINDS: tuple[Kind, ...] = get_args(Kind)

MIN_STRENGTH, MAX_STRENGTH = 0.1, 0.8  # range of random strengths
EVAL_STRENGTH = 0.5  # strength of the benchmarks: sigma 25, JPEG quality 20, motion blur of 9 px
_ORDER: tuple[tuple[Kind, ...], ...] = (  # from scene to file
    ("rain",),
    ("motion", "shake", "defocus"),
    ("noise", "shot"),
    ("jpeg",),
)

Step = Callable[[Tensor, float, int], Tensor]
"""(sRGB values, strength in (0, 1], seed) to sRGB values, not rounded."""


def degrade(sharp: Tensor, kind: Kind, *, seed: int, strength: float | None = None) -> Tensor:
    """Degrade an image.

    Args:
        sharp: [3, H, W] sRGB in [0, 1].
        kind: Degradation. "mixed" combines two to four in physical order, without haze and low light, which
            would hide the others; "uneven" is one of spatially varying strength.
        seed: Of all random choices: positions, directions, noise.
        strength: 0 is the identity, 1 the worst; None draws one.

    Returns:
        [3, H, W] sRGB, quantised to 8 bits.
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
    """One degradation each of two to four groups of `_ORDER`, at reduced strength."""
    rng = np.random.default_rng(seed)
    groups = sorted(rng.choice(4, int(rng.integers(2, 5)), replace=False, p=(0.16, 0.28, 0.28, 0.28)))
    for group in groups:
        kind = _ORDER[group][int(rng.integers(len(_ORDER[group])))]
        reduced = strength * float(rng.uniform(0.4, 0.9))
        encoded = _STEPS[kind](encoded, reduced, int(rng.integers(2**31)))
    return encoded


def _spatially_varying(encoded: Tensor, strength: float, seed: int) -> Tensor:
    """One degradation, blended with the image by a random mask."""
    rng = np.random.default_rng(seed)
    kind = rng.choice([kind for kind in KINDS if kind not in ("clean", "mixed", "uneven", "dark")])
    degraded = _STEPS[kind](encoded, strength, int(rng.integers(2**31)))
    return torch.lerp(encoded, degraded, _random_mask(encoded.shape[1:], rng))


def _random_mask(size: torch.Size, rng: np.random.Generator) -> Tensor:
    """[H, W] smooth mask in [0, 1], about half of it 0 or 1."""
    coarse = rng.normal(0, 1.5, (4, 4)).astype(np.float32)
    smooth = cv2.resize(coarse, tuple(size)[::-1], interpolation=cv2.INTER_CUBIC)
    return torch.from_numpy(np.clip(0.5 + smooth, 0, 1))


def _in_linear(step: Step) -> Step:
    """A step of linear RGB as one of sRGB values."""

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
