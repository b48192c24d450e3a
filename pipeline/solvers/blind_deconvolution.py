"""Undoing hand shake: the kernel of every photo of a burst, and the sharp picture that explains them all.

Shake within an exposure is not the motion between photos, so no flow tells it. But each photo v is the same
sharp picture x, blurred by a small kernel k of its own. Alternating between the kernels (least squares,
nothing negative; Fergus et al. 2006, Sroubek & Milanfar 2012) and the picture (Wiener's quotient with a
total-variation prior, by half-quadratic splitting; Wang et al. 2008) finds both: eight kernels with different
gaps leave no frequency unseen. What a photo does not show (beyond its border, at white, behind something that
moved) is filled with what the others say it would have shown.

Nothing here takes a gradient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

ROUNDS = 10
TV_WEIGHT = 0.07  # of the total-variation prior, against a photo seen without blur
FLAT_WEIGHT = 0.1  # share of frequencies' weight that does not grow with frequency
RIDGE_WEIGHT = 1e-2  # pull of a kernel towards its first guess, against a picture of usual texture
KERNEL_THRESHOLD = 0.05  # of a kernel's peak: less is noise
DESCENT_STEPS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignedBurst:
    """Photos of one scene on one pixel grid."""

    linear: Tensor  # [T, 3, H, W] linear RGB
    consistency: Tensor  # [T, H, W] in [0, 1]; 0 where a photo does not show what the reference shows
    reference: int  # whose kernel has its centre of mass in its middle
    noise: float  # standard deviation of the noise of gamma-coded light


def blind_deconvolve(
    aligned: AlignedBurst,
    start: Tensor,
    kernels: Tensor,
    *,
    reference_information: float,
    rounds: int = ROUNDS,
) -> tuple[Tensor, Tensor]:
    """The sharp picture, and the kernels that blurred it.

    Args:
        aligned: The photos.
        start: First guess of the picture. [3, H, W] linear RGB.
        kernels: First guess of the kernels, [T, S, S] with odd S; zeros where nothing is known.
        reference_information: Texture, as `kernel_information` gives it, for which the photos outweigh the first guess of the kernels.
        rounds: How often kernels and picture improve each other.

    Returns:
        [3, H, W] linear RGB and [T, S, S]; each kernel sums to 1.
    """
    level = aligned.linear.mean((0, 2, 3), keepdim=True)
    taper = _taper(start.shape[-2:]).to(start)
    sharp, guess = (start - level[0]) * taper, kernels
    observed = (aligned.linear - level) * aligned.consistency[:, None]
    missing = 1 - aligned.consistency[:, None]
    full = observed + missing * sharp
    for iteration in range(rounds):
        if iteration or not guess.any():
            kernels = estimate_kernels(
                sharp, full * taper, guess, reference_information=reference_information
            )
        blurs = _spectra(kernels, start.shape[-2:], reference=aligned.reference)
        sharp = _wiener_tv(full * taper, blurs, sharp, step=1.2 * aligned.noise)
        full = observed + missing * _inverse(blurs[:, None] * _spectrum(sharp), sharp)
    return sharp + level[0], kernels


def estimate_kernels(
    sharp: Tensor, blurred: Tensor, guess: Tensor, *, reference_information: float
) -> Tensor:
    """The kernels that turn one picture into others.

    Minimises |sharp * k - blurred|^2 + |k - guess|^2, k >= 0, by accelerated projected gradient descent
    (Beck & Teboulle 2009). Frequencies count in proportion to their own height: natural pictures would
    otherwise speak of their broadest shapes only, which blur does not change.

    Args:
        sharp: [3, H, W] of zero mean, faded to its borders.
        blurred: [T, 3, H, W], likewise.
        guess: [T, S, S] with odd S.
        reference_information: Texture for which the photos outweigh the guess.
    """
    size = guess.shape[-1]
    gram, rhs = _normal_equations(sharp, blurred, size)
    ridge = RIDGE_WEIGHT * reference_information * sharp[0].numel()
    gram.diagonal().add_(ridge)
    rhs = rhs + ridge * guess.flatten(1)
    kernels = _solve_nonnegative(gram, rhs)
    kernels = torch.where(
        kernels > KERNEL_THRESHOLD * kernels.amax(1, keepdim=True), kernels, torch.zeros_like(kernels)
    )
    return (kernels / kernels.sum(1, keepdim=True).clamp_min(1e-9)).view(-1, size, size)


def kernel_information(image: Tensor) -> float:
    """What a picture [3, H, W] says about kernels: its energy per pixel, weighted as `estimate_kernels` does."""
    spectrum = _spectrum(image - image.mean((1, 2), keepdim=True))
    energy = _inverse(_weight(image) * spectrum.abs().square().sum(0), image)
    return float(energy[0, 0]) / image[0].numel()


def blur_with(image: Tensor, kernels: Tensor, *, reference: int | None = None) -> Tensor:
    """A picture [3, H, W] as seen through each of the kernels, [T, S, S]: [T, 3, H, W], wrapped around.

    With a `reference`, that kernel's centre of mass counts as the middle of all, as in what `blind_deconvolve` gives.
    """
    spectra = _spectra(kernels, image.shape[-2:], reference=reference)
    return _inverse(spectra[:, None] * _spectrum(image), image)


def mtf_max(kernels: Tensor, like: Tensor) -> float:
    """The largest share that any of the kernels [T, S, S] passes, as a mean over all frequencies."""
    return float(_spectra(kernels, like.shape[-2:]).abs().amax(0).mean())


def _normal_equations(sharp: Tensor, blurred: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Correlations of the picture with itself, [S S, S S], and with each photo, [T, S S]."""
    weight, spectrum = _weight(sharp), _spectrum(sharp)
    own = _inverse(weight * spectrum.abs().square().sum(0), sharp)
    cross = _inverse(weight * (spectrum.conj() * _spectrum(blurred)).sum(1), sharp)
    offsets = torch.arange(-(size // 2), size // 2 + 1)
    down, across = (axis.flatten() for axis in torch.meshgrid(offsets, offsets, indexing="ij"))
    gram = own[down[:, None] - down, across[:, None] - across]
    return gram, cross[:, down, across]


def _solve_nonnegative(gram: Tensor, rhs: Tensor) -> Tensor:
    """The vectors k >= 0, [T, N], that minimise k curve k / 2 - pull k."""
    max_eigenvalue = torch.linalg.vector_norm(gram, dim=0).max()
    direction = torch.ones(len(gram), dtype=gram.dtype, device=gram.device)
    for _ in range(12):
        direction = gram @ direction
        max_eigenvalue = direction.norm()
        direction = direction / max_eigenvalue
    step = 0.95 / max_eigenvalue
    current = extrapolated = torch.zeros_like(rhs)
    momentum = 1.0
    for _ in range(DESCENT_STEPS):
        updated = (extrapolated - step * (extrapolated @ gram - rhs)).clamp_min(0)
        next_momentum = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        extrapolated = updated + (momentum - 1) / next_momentum * (updated - current)
        current, momentum = updated, next_momentum
    return current


def _wiener_tv(photos: Tensor, blurs: Tensor, start: Tensor, *, step: float, rounds: int = 3) -> Tensor:
    """The picture of least total variation that explains the photos; `step` is the slope taken for noise."""
    down, across = _differences(start)
    top = (blurs.conj()[:, None] * _spectrum(photos)).sum(0)
    bottom = blurs.abs().square().sum(0) + TV_WEIGHT * (down.abs().square() + across.abs().square())
    sharp = start
    for _ in range(rounds):
        slopes = torch.stack([sharp.roll(-1, -2) - sharp, sharp.roll(-1, -1) - sharp])
        size = slopes.square().sum((0, 1)).sqrt().clamp_min(1e-9)
        spectra = _spectrum(slopes * (1 - step / size).clamp_min(0))
        prior = TV_WEIGHT * (down.conj() * spectra[0] + across.conj() * spectra[1])
        sharp = _inverse((top + prior) / bottom, start)
    return sharp


def _spectra(kernels: Tensor, size: tuple[int, ...], *, reference: int | None = None) -> Tensor:
    """[T, H, W/2 + 1] of kernels [T, S, S], all moved so that the reference's centre of mass is at 0."""
    side = kernels.shape[-1]
    fft_buffer = kernels.new_zeros(len(kernels), *size)
    fft_buffer[:, :side, :side] = kernels
    spectra = _spectrum(fft_buffer.roll((-(side // 2), -(side // 2)), (1, 2)))
    if reference is None:
        return spectra
    offsets = torch.arange(side, device=kernels.device) - side // 2
    down = (kernels[reference].sum(1) * offsets).sum()
    across = (kernels[reference].sum(0) * offsets).sum()
    rows, columns = _frequencies(fft_buffer)
    centred: Tensor = spectra * torch.exp(2j * math.pi * (rows * down + columns * across))
    return centred


def _differences(like: Tensor) -> tuple[Tensor, Tensor]:
    """Spectra of the steps down and to the right."""
    rows, columns = _frequencies(like)
    return torch.exp(2j * math.pi * rows) - 1, torch.exp(2j * math.pi * columns) - 1


def _weight(like: Tensor) -> Tensor:
    down, across = _differences(like)
    return (down.abs().square() + across.abs().square()).sqrt() + FLAT_WEIGHT


def _frequencies(like: Tensor) -> tuple[Tensor, Tensor]:
    """Cycles per pixel, down [H, 1] and across [1, W/2 + 1]."""
    height, width = like.shape[-2:]
    rows = torch.fft.fftfreq(height, device=like.device)[:, None]
    return rows, torch.fft.rfftfreq(width, device=like.device)[None]


def _spectrum(image: Tensor) -> Tensor:
    spectrum: Tensor = torch.fft.rfft2(image)
    return spectrum


def _inverse(spectrum: Tensor, like: Tensor) -> Tensor:
    image: Tensor = torch.fft.irfft2(spectrum, s=like.shape[-2:])
    return image


def _taper(size: tuple[int, ...], width: int = 24) -> Tensor:
    """[H, W] from 0 at the border to 1 inside, a raised cosine: what wraps around then meets nothing."""
    sides = []
    for length in size:
        inward = torch.arange(length) + 0.5
        part = (torch.minimum(inward, length - inward) / min(width, length / 2)).clamp(max=1)
        sides.append(0.5 - 0.5 * torch.cos(math.pi * part))
    return sides[0][:, None] * sides[1]
