"""Wiener deconvolution under an uncertain PSF.

The Wiener filter of a transfer function K is K* / (|K|^2 + noise / signal). For a distribution of K, the
filter of least mean square error is E[K]* / (E[|K|^2] + noise / signal): uncertainty reduces its gain. The
power of photographs falls with the square of the frequency, so noise / signal rises with it.

Nothing here takes a gradient.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from freezeframe.data.color import SRGB, to_encoded, to_linear

from .psf_estimator import LAGS, MAX_OFFSET, NUM_RADII, RADIUS_STEP

NOISES = (0.002, 0.008, 0.03)  # noise / signal at a wavelength of six pixels
TOP_OFFSETS = 12  # most probable offsets in the expectation
DISK_SAMPLES = 2048  # frequencies from zero to the highest at which disks are computed
MARGIN = 32  # pixels of reflected margin


def wiener_candidates(encoded: Tensor, offsets: Tensor, radii: Tensor) -> Tensor:
    """Corrections by Wiener deconvolution, one for each noise level of `NOISES`.

    Args:
        encoded: [B, 3, H, W] sRGB-encoded in [0, 1].
        offsets: Log-probabilities of `PsfEstimator`. [B, LAGS, LAGS].
        radii: Likewise. [B, NUM_RADII].

    Returns:
        [B, 3 * len(NOISES), H, W] differences of sRGB-encoded values, float32.
    """
    linear = to_linear(encoded.detach().float().clamp(0, 1), SRGB)
    padded = _with_margins(linear)
    size = padded.shape[-2:]
    y = torch.fft.fftfreq(size[0], device=encoded.device)[:, None]
    x = torch.fft.rfftfreq(size[1], device=encoded.device)
    mean, square = transfer_moments(y, x, offsets, radii)
    spectrum = torch.fft.rfft2(padded)
    corrections = []
    for noise in NOISES:
        noise_to_signal = noise * 36 * (y.square() + x.square())
        # The second term of the numerator makes the gain 1 for an image without blur.
        gain = mean * (1 + noise_to_signal) / (square + noise_to_signal)
        sharp = torch.fft.irfft2(spectrum * gain[:, None], s=size)
        corrections.append(to_encoded(_without_margins(sharp, linear).clamp(0, 1), SRGB) - encoded.float())
    return torch.cat(corrections, 1)


def transfer_moments(y: Tensor, x: Tensor, offsets: Tensor, radii: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and mean square of the transfer function over the most probable PSFs.

    Args:
        y: [H, 1] frequencies, cycles per pixel.
        x: [W] frequencies.
        offsets: [B, LAGS, LAGS] log-probabilities.
        radii: [B, NUM_RADII] log-probabilities.

    Returns:
        Mean and mean square, each [B, H, W].
    """
    middle = LAGS * LAGS // 2  # the other half is the same by symmetry
    probabilities, at = offsets.flatten(1)[:, middle:].topk(TOP_OFFSETS, dim=1)
    probabilities, at = probabilities.softmax(1), at + middle
    round_mean, round_square = _disks(y, x, radii)
    mean, square = torch.zeros_like(round_mean), torch.zeros_like(round_mean)
    for k in range(TOP_OFFSETS):
        dy, dx = (at[:, k] // LAGS - MAX_OFFSET)[:, None, None], (at[:, k] % LAGS - MAX_OFFSET)[:, None, None]
        line = torch.sinc(y * dy + x * dx)
        probability = probabilities[:, k, None, None]
        mean += probability * line
        square += probability * line.square()
    return mean * round_mean, square * round_square


def _disks(y: Tensor, x: Tensor, radii: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and mean square over the radii of the disk's 2 J1(2 pi f r) / (2 pi f r). [B, H, W] each."""
    highest = math.sqrt(0.5)
    steps = torch.linspace(0, highest, DISK_SAMPLES, device=y.device)
    radius = RADIUS_STEP * torch.arange(NUM_RADII, device=y.device)
    phase = (2 * math.pi * radius[:, None] * steps).clamp_min(1e-3)
    disks = 2 * torch.special.bessel_j1(phase) / phase
    at = ((y.square() + x.square()).sqrt() * ((DISK_SAMPLES - 1) / highest)).round().long()
    probabilities = radii.exp()
    return (probabilities @ disks)[:, at], (probabilities @ disks.square())[:, at]


def _with_margins(linear: Tensor) -> Tensor:
    """Reflect outward by `MARGIN` pixels, or by as many as there are."""
    for axis in (2, 3):
        short = min(MARGIN, linear.shape[axis])
        before = linear.narrow(axis, 0, short).flip(axis)
        after = linear.narrow(axis, linear.shape[axis] - short, short).flip(axis)
        linear = torch.cat([before, linear, after], axis)
    return linear


def _without_margins(linear: Tensor, reference: Tensor) -> Tensor:
    top, left = ((a - b) // 2 for a, b in zip(linear.shape[-2:], reference.shape[-2:], strict=True))
    return linear[..., top : top + reference.shape[-2], left : left + reference.shape[-1]]
