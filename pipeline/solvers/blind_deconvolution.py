"""Multi-frame blind deconvolution: one blur kernel per photo of a burst, and the latent image.

The shake during an exposure is not the motion between photos, so flow cannot measure it. Each photo v is the
latent image x, blurred by a small kernel k of its own. Alternating minimisation estimates the kernels (least
squares, non-negative; Fergus et al. 2006, Sroubek & Milanfar 2012) and the image (Wiener quotient with a
total-variation prior, by half-quadratic splitting; Wang et al. 2008). Eight kernels with different zeros
leave no frequency without an observation. Pixels that a photo does not observe (beyond its border, saturated,
occluded by moving objects) are filled with the re-blurred estimate.

Nothing here takes a gradient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class BlindDeconvolutionParams:
    """Tunables of the alternating minimisation."""

    rounds: int = 10  # updates of kernels and image
    image_steps: int = 3  # half-quadratic steps per round
    descent_steps: int = 100  # of accelerated projected gradient descent per round
    tv_weight: float = 0.07  # of the total-variation prior, relative to a photo without blur
    flat_weight: float = 0.1  # frequency weight at frequency 0, where natural images have the most energy
    ridge_weight: float = 1e-2  # pull of a kernel towards its initial value, at the reference's texture
    kernel_threshold: float = 0.05  # fraction of a kernel's peak below which values are noise
    slope_noise: float = 1.2  # times the noise: slopes of an image below it are noise
    taper_px: int = 24  # width of the fade to the border


BLIND_DECONVOLUTION_PARAMS = BlindDeconvolutionParams()


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignedBurst:
    """Photos of one scene on one pixel grid."""

    linear: Tensor  # [T, 3, H, W] linear RGB
    consistency: Tensor  # [T, H, W] in [0, 1]; 0 where a photo differs from the reference
    reference: int  # number of the photo whose kernel is centred
    noise: float  # standard deviation of the gamma-coded noise


def blind_deconvolve(
    aligned: AlignedBurst,
    start: Tensor,
    kernels: Tensor,
    *,
    reference_information: float,
    params: BlindDeconvolutionParams = BLIND_DECONVOLUTION_PARAMS,
) -> tuple[Tensor, Tensor]:
    """Estimate the latent image and the blur kernels.

    Args:
        aligned: The photos.
        start: Initial image. [3, H, W] linear RGB.
        kernels: Initial kernels, [T, S, S] with odd S; zeros if unknown.
        reference_information: `kernel_information` at which the photos outweigh the initial kernels.
        params: Tunables.

    Returns:
        [3, H, W] linear RGB and [T, S, S]; each kernel sums to 1.
    """
    level = aligned.linear.mean((0, 2, 3), keepdim=True)
    taper = _taper(start.shape[-2:], params.taper_px).to(start)
    sharp, initial = (start - level[0]) * taper, kernels
    observed = (aligned.linear - level) * aligned.consistency[:, None]
    missing = 1 - aligned.consistency[:, None]
    full = observed + missing * sharp
    for iteration in range(params.rounds):
        if iteration or not initial.any():
            kernels = estimate_kernels(
                sharp, full * taper, initial, reference_information=reference_information, params=params
            )
        blurs = _spectra(kernels, start.shape[-2:], reference=aligned.reference)
        sharp = _wiener_tv(full * taper, blurs, sharp, aligned.noise, params)
        full = observed + missing * _inverse(blurs[:, None] * _spectrum(sharp), sharp)
    return sharp + level[0], kernels


def estimate_kernels(
    sharp: Tensor,
    blurred: Tensor,
    initial: Tensor,
    *,
    reference_information: float,
    params: BlindDeconvolutionParams = BLIND_DECONVOLUTION_PARAMS,
) -> Tensor:
    """Kernels that blur one image into others.

    Minimises |sharp * k - blurred|^2 + |k - initial|^2, k >= 0, by accelerated projected gradient descent
    (Beck & Teboulle 2009). The error is weighted by frequency: the low frequencies of natural images, which
    blur does not change, would dominate it otherwise.

    Args:
        sharp: [3, H, W] of zero mean, faded to its borders.
        blurred: [T, 3, H, W], likewise.
        initial: [T, S, S] with odd S.
        reference_information: `kernel_information` at which the photos outweigh the initial kernels.
        params: Tunables.

    Returns:
        [T, S, S]; each kernel sums to 1.
    """
    size = initial.shape[-1]
    gram, rhs = _normal_equations(sharp, blurred, size, params)
    ridge = params.ridge_weight * reference_information * sharp[0].numel()
    gram.diagonal().add_(ridge)
    rhs = rhs + ridge * initial.flatten(1)
    kernels = _solve_nonnegative(gram, rhs, params.descent_steps)
    kernels = torch.where(
        kernels > params.kernel_threshold * kernels.amax(1, keepdim=True), kernels, torch.zeros_like(kernels)
    )
    return (kernels / kernels.sum(1, keepdim=True).clamp_min(1e-9)).view(-1, size, size)


def kernel_information(image: Tensor, params: BlindDeconvolutionParams = BLIND_DECONVOLUTION_PARAMS) -> float:
    """Texture of an image [3, H, W]: energy per pixel, with the frequency weights of `estimate_kernels`."""
    spectrum = _spectrum(image - image.mean((1, 2), keepdim=True))
    energy = _inverse(_frequency_weight(image, params) * spectrum.abs().square().sum(0), image)
    return float(energy[0, 0]) / image[0].numel()


def blur_with(image: Tensor, kernels: Tensor, *, reference: int | None = None) -> Tensor:
    """An image [3, H, W], blurred by each of the kernels [T, S, S] with wrapped borders: [T, 3, H, W].

    With a `reference`, all kernels are shifted so that its centre of mass is at 0, as in `blind_deconvolve`.
    """
    spectra = _spectra(kernels, image.shape[-2:], reference=reference)
    return _inverse(spectra[:, None] * _spectrum(image), image)


def mtf_max(kernels: Tensor, like: Tensor) -> float:
    """The maximum modulation transfer over the kernels [T, S, S], averaged over all frequencies."""
    return float(_spectra(kernels, like.shape[-2:]).abs().amax(0).mean())


def _normal_equations(
    sharp: Tensor, blurred: Tensor, size: int, params: BlindDeconvolutionParams
) -> tuple[Tensor, Tensor]:
    """Autocorrelation of the image, [S S, S S], and its correlation with each photo, [T, S S]."""
    weight, spectrum = _frequency_weight(sharp, params), _spectrum(sharp)
    autocorrelation = _inverse(weight * spectrum.abs().square().sum(0), sharp)
    cross = _inverse(weight * (spectrum.conj() * _spectrum(blurred)).sum(1), sharp)
    offsets = torch.arange(-(size // 2), size // 2 + 1)
    down, across = (axis.flatten() for axis in torch.meshgrid(offsets, offsets, indexing="ij"))
    gram = autocorrelation[down[:, None] - down, across[:, None] - across]
    return gram, cross[:, down, across]


def _solve_nonnegative(gram: Tensor, rhs: Tensor, steps: int) -> Tensor:
    """The vectors k >= 0, [T, N], that minimise k gram k / 2 - rhs k."""
    max_eigenvalue = torch.linalg.vector_norm(gram, dim=0).max()
    direction = torch.ones(len(gram), dtype=gram.dtype, device=gram.device)
    for _ in range(12):
        direction = gram @ direction
        max_eigenvalue = direction.norm()
        direction = direction / max_eigenvalue
    step = 0.95 / max_eigenvalue
    current = extrapolated = torch.zeros_like(rhs)
    momentum = 1.0
    for _ in range(steps):
        updated = (extrapolated - step * (extrapolated @ gram - rhs)).clamp_min(0)
        next_momentum = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        extrapolated = updated + (momentum - 1) / next_momentum * (updated - current)
        current, momentum = updated, next_momentum
    return current


def _wiener_tv(
    photos: Tensor, blurs: Tensor, start: Tensor, noise: float, params: BlindDeconvolutionParams
) -> Tensor:
    """Image of small total variation that re-blurs to the photos; slopes within the noise are removed."""
    step = params.slope_noise * noise
    down, across = _differences(start)
    top = (blurs.conj()[:, None] * _spectrum(photos)).sum(0)
    bottom = blurs.abs().square().sum(0) + params.tv_weight * (down.abs().square() + across.abs().square())
    sharp = start
    for _ in range(params.image_steps):
        slopes = torch.stack([sharp.roll(-1, -2) - sharp, sharp.roll(-1, -1) - sharp])
        size = slopes.square().sum((0, 1)).sqrt().clamp_min(1e-9)
        spectra = _spectrum(slopes * (1 - step / size).clamp_min(0))
        prior = params.tv_weight * (down.conj() * spectra[0] + across.conj() * spectra[1])
        sharp = _inverse((top + prior) / bottom, start)
    return sharp


def _spectra(kernels: Tensor, size: tuple[int, ...], *, reference: int | None = None) -> Tensor:
    """[T, H, W/2 + 1] of kernels [T, S, S], shifted so that the reference's centre of mass is at 0."""
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
    """Spectra of the forward differences down and to the right."""
    rows, columns = _frequencies(like)
    return torch.exp(2j * math.pi * rows) - 1, torch.exp(2j * math.pi * columns) - 1


def _frequency_weight(like: Tensor, params: BlindDeconvolutionParams) -> Tensor:
    down, across = _differences(like)
    return (down.abs().square() + across.abs().square()).sqrt() + params.flat_weight


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


def _taper(size: tuple[int, ...], width: int) -> Tensor:
    """Raised cosine [H, W], 0 at the border and 1 inside, so that nothing wraps around."""
    sides = []
    for length in size:
        inward = torch.arange(length) + 0.5
        part = (torch.minimum(inward, length - inward) / min(width, length / 2)).clamp(max=1)
        sides.append(0.5 - 0.5 * torch.cos(math.pi * part))
    return sides[0][:, None] * sides[1]
