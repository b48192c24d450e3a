"""Blurs undone in the mean: the linear filter that is best over all blurs that a picture may have suffered.

Wiener's filter for one blur K is K* / (|K|^2 + noise / signal). Where only probabilities of blurs are known
the least mean square error takes means of both: E[K]* / (E[|K|^2] + noise / signal). Doubt makes it gentle.
As the power of photographs falls with the square of frequency, noise / signal rises with it.

Nothing here takes a gradient.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from freezeframe.data.color import SRGB, to_light, to_signal

from .psf_estimator import LAGS, RADII, REACH, STEP

NOISES = (0.002, 0.008, 0.03)  # noise / signal where the wavelength is six pixels
LIKELY = 12  # ways that are looked at
FINE = 2048  # frequencies from none to the highest that disks are computed at
MARGIN = 32  # pixels of mirrored picture around


def undone(codes: Tensor, ways: Tensor, radii: Tensor) -> Tensor:
    """What each of `NOISES` would add to a picture, if nothing but this blur had befallen it.

    Args:
        codes: [B, 3, H, W] sRGB codes in [0, 1].
        ways: From `BlurEstimator`. Logarithms of probabilities. [B, LAGS, LAGS].
        radii: Likewise. [B, RADII].

    Returns:
        [B, 3 * len(NOISES), H, W] differences of codes, float32.
    """
    light = to_light(codes.detach().float().clamp(0, 1), SRGB)
    whole = _with_margins(light)
    size = whole.shape[-2:]
    y = torch.fft.fftfreq(size[0], device=codes.device)[:, None]
    x = torch.fft.rfftfreq(size[1], device=codes.device)
    mean, square = moments(y, x, ways, radii)
    spectrum = torch.fft.rfft2(whole)
    found = []
    for noise in NOISES:
        floor = noise * 36 * (y.square() + x.square())
        # A picture that was not blurred comes back as it was: hence the numerator's second term.
        gain = mean * (1 + floor) / (square + floor)
        sharp = torch.fft.irfft2(spectrum * gain[:, None], s=size)
        found.append(to_signal(_without_margins(sharp, light).clamp(0, 1), SRGB) - codes.float())
    return torch.cat(found, 1)


def moments(y: Tensor, x: Tensor, ways: Tensor, radii: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and mean square of the transfer function over the likeliest blurs.

    Args:
        y: [H, 1] frequencies, cycles per pixel.
        x: [W] frequencies.
        ways: [B, LAGS, LAGS] logarithms of probabilities by way.
        radii: [B, RADII] by radius.

    Returns:
        Two of [B, H, W].
    """
    middle = LAGS * LAGS // 2  # from there on the other half is the same again
    chances, at = ways.flatten(1)[:, middle:].topk(LIKELY, dim=1)
    chances, at = chances.softmax(1), at + middle
    round_mean, round_square = _disks(y, x, radii)
    mean, square = torch.zeros_like(round_mean), torch.zeros_like(round_mean)
    for k in range(LIKELY):
        dy, dx = (at[:, k] // LAGS - REACH)[:, None, None], (at[:, k] % LAGS - REACH)[:, None, None]
        line = torch.sinc(y * dy + x * dx)
        share = chances[:, k, None, None]
        mean += share * line
        square += share * line.square()
    return mean * round_mean, square * round_square


def _disks(y: Tensor, x: Tensor, radii: Tensor) -> tuple[Tensor, Tensor]:
    """2 J1(2 pi f r) / (2 pi f r), its mean and mean square over the radii. [B, H, W]."""
    highest = math.sqrt(0.5)
    steps = torch.linspace(0, highest, FINE, device=y.device)
    radius = STEP * torch.arange(RADII, device=y.device)
    phase = (2 * math.pi * radius[:, None] * steps).clamp_min(1e-3)
    disks = 2 * torch.special.bessel_j1(phase) / phase
    at = ((y.square() + x.square()).sqrt() * ((FINE - 1) / highest)).round().long()
    chances = radii.exp()
    return (chances @ disks)[:, at], (chances @ disks.square())[:, at]


def _with_margins(light: Tensor) -> Tensor:
    """Mirrored outward by `MARGIN` pixels, or by as many as there are."""
    for axis in (2, 3):
        short = min(MARGIN, light.shape[axis])
        before = light.narrow(axis, 0, short).flip(axis)
        after = light.narrow(axis, light.shape[axis] - short, short).flip(axis)
        light = torch.cat([before, light, after], axis)
    return light


def _without_margins(light: Tensor, like: Tensor) -> Tensor:
    top, left = ((a - b) // 2 for a, b in zip(light.shape[-2:], like.shape[-2:], strict=True))
    return light[..., top : top + like.shape[-2], left : left + like.shape[-1]]
