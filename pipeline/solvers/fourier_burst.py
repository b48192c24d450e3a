"""Merging of a hand-held burst: Fourier burst accumulation, then multi-frame blind deconvolution.

The photos are aligned to the sharpest one. Fourier burst accumulation (Delbracio & Sapiro 2015) takes every
spatial frequency from the photos in which it is strongest, and never fails badly. From this image blind
deconvolution estimates one kernel per photo and the latent image, in tiles. Where the latent image does not
re-blur to the reference photo, the accumulated image stays.

Nothing here takes a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

from freezeframe.models.imageops.tiling import blend_weights, tile_ranges
from freezeframe.pipeline.support.progress import ProgressCallback, null_progress

from .blind_deconvolution import (
    AlignedBurst,
    BlindDeconvolutionParams,
    blind_deconvolve,
    blur_with,
    kernel_information,
    mtf_max,
)
from .burst_alignment import agreement, align_burst, sharpness

Ramp = tuple[float, float]  # 0 up to the first value, 1 from the second on


@dataclass(frozen=True, slots=True, kw_only=True)
class BurstParams:
    """Tunables of the merging."""

    power: float = 7.0  # exponent of the magnitudes that weight the photos per frequency
    patch_px: int = 128  # side of the patches of the accumulation
    patch_overlap_px: int = 64
    min_side_px: int = 16  # shorter side below which photos cannot be aligned
    kernel_view_px: int = 1024  # longer side of the image for the initial kernels
    seed_px: int = 384  # side of the most textured part of it, in which they are estimated
    kernel_px: int = 31  # side of the initial kernels
    kernel_room_px: int = 3  # pixels that a kernel may grow in a tile
    tile_px: int = 256  # side of the tiles with one kernel per photo
    tile_overlap_px: int = 96
    tile_rounds: int = 4  # of blind deconvolution in a tile, from the initial kernels
    border_px: int = 32  # unobserved pixels added around the image
    radius_ramp: Ramp = (0.3, 0.7)  # pixels: radius of the reference's kernel that is shake
    mtf_ramp: Ramp = (0.25, 0.38)  # mean of the best modulation transfer that allows deconvolution
    misfit_ramp: Ramp = (1.8, 2.4)  # error of the re-blurred photos over their noise that is a wrong result
    noise_ramp: Ramp = (0.007, 0.014)  # gamma-coded noise at which sharp photos are merged too
    interpolation_noise: float = 0.003  # gamma-coded error of the alignment


BURST_PARAMS = BurstParams()


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedBurst:
    """Result of merging."""

    image: Tensor  # [3, H, W] linear RGB, on the reference's grid
    confidence: Tensor  # [H, W] in [0, 1]: agreement of the photos with each other and with the result
    reference: int  # number of the reference photo


def fuse_burst(
    photos: Sequence[Tensor],
    *,
    strength: float = 1.0,
    progress: ProgressCallback = null_progress,
    params: BurstParams = BURST_PARAMS,
) -> MergedBurst:
    """Merge hand-held photos of one scene.

    Args:
        photos: [3, H, W] linear RGB each, of one size, in any order.
        strength: 0 returns the sharpest photo, 1 the full result.
        progress: Called after the alignment of each photo, the accumulation and the deconvolution.
        params: Tunables.
    """
    burst = torch.stack(list(photos))
    reference = int(sharpness(burst).argmax())
    if len(burst) == 1 or min(burst.shape[2:]) < params.min_side_px:
        photo = burst[reference]
        return MergedBurst(image=photo, confidence=torch.zeros_like(photo[0]), reference=reference)
    steps = len(burst) + 2
    progress(0, steps)
    aligned = align_burst(burst, reference, on_aligned=lambda: progress(1, steps))
    accumulated = fourier_burst_accumulation(
        _fill_from_reference(aligned), aligned.consistency, power=params.power, params=params
    )
    progress(1, steps)
    sharp, confidence = _deconvolve_tiles(aligned, accumulated, params)
    progress(1, steps)
    image = torch.lerp(burst[reference], sharp.clamp(0, 1), strength)
    return MergedBurst(image=image, confidence=confidence, reference=reference)


def fourier_burst_accumulation(
    aligned: Tensor, consistency: Tensor, *, power: float, params: BurstParams = BURST_PARAMS
) -> Tensor:
    """Merge aligned photos, each spatial frequency weighted by its magnitude in a photo.

    Blur only attenuates a frequency, so the strongest copy is the least blurred (Delbracio & Sapiro 2015).
    Overlapping patches limit the effect of moving objects to their surroundings.

    Args:
        aligned: Photos on one pixel grid. [T, 3, H, W] linear RGB.
        consistency: [T, H, W] in [0, 1]; weight of a photo in a patch.
        power: 0 averages; large values take each frequency from its sharpest photo.
        params: Size of the patches.

    Returns:
        [3, H, W] linear RGB.
    """
    merged = torch.zeros_like(aligned[0])
    size, patch = aligned.shape[-2:], params.patch_px
    for rows, columns, weight in _tiles(size, tile=patch, overlap=params.patch_overlap_px):
        photo_weights = consistency[:, rows, columns].mean((1, 2)).view(-1, 1, 1, 1).clamp_min(1e-6)
        spectra = torch.fft.rfft2(aligned[..., rows, columns].clamp_min(0).sqrt())
        magnitude = _smooth(spectra.abs().mean(1, keepdim=True))
        # Where all magnitudes are 0, the weights are equal.
        weights = photo_weights * ((magnitude + 1e-9) / (magnitude.amax(0) + 1e-9)) ** power
        merged_patch = torch.fft.irfft2((weights / weights.sum(0) * spectra).sum(0), s=weight.shape)
        merged[:, rows, columns] += weight.to(merged_patch) * merged_patch.clamp_min(0).square()
    return merged


def _smooth(magnitude: Tensor) -> Tensor:
    """Magnitudes of frequencies, [T, 1, H, W / 2 + 1], smoothed so that noise does not select the photo."""
    return avg_pool2d(pad(magnitude, (2, 2, 2, 2), mode="replicate"), 5, stride=1)


def _fill_from_reference(aligned: AlignedBurst) -> Tensor:
    """The photos, [T, 3, H, W], with the reference where they are inconsistent with it."""
    return torch.lerp(aligned.linear[aligned.reference], aligned.linear, aligned.consistency[:, None])


def _deconvolve_tiles(
    aligned: AlignedBurst, accumulated: Tensor, params: BurstParams
) -> tuple[Tensor, Tensor]:
    """The latent image where it re-blurs to the reference, else `accumulated`; and the confidence, [H, W]."""
    seed, reference_information = _initial_kernels(aligned, accumulated, params)
    border = params.border_px
    sides = (border, border, border, border)
    linear = pad(aligned.linear, sides, mode="replicate")
    padded = pad(accumulated[None], sides, mode="replicate")[0]
    consistency = pad(aligned.consistency, sides)
    merged, confidence = torch.zeros_like(padded), torch.zeros_like(padded[0])
    tiles = _tiles(linear.shape[-2:], tile=params.tile_px, overlap=params.tile_overlap_px)
    for rows, columns, weight in tiles:
        part = replace(
            aligned, linear=linear[..., rows, columns], consistency=consistency[..., rows, columns]
        )
        image, tile_confidence = _deconvolve_tile(
            part, padded[:, rows, columns], seed, reference_information, params
        )
        merged[:, rows, columns] += weight * image
        confidence[rows, columns] += weight * tile_confidence
    inner = slice(border, -border)
    return merged[:, inner, inner], confidence[inner, inner]


def _deconvolve_tile(
    aligned: AlignedBurst,
    accumulated: Tensor,
    seed: Tensor,
    reference_information: float,
    params: BurstParams,
) -> tuple[Tensor, Tensor]:
    base = aligned.linear[aligned.reference]
    # Blurs commute: k(a) b = k(b) a wherever photos a and b show the same scene.
    agreements = [
        agreement(blur_with(photo, seed[[aligned.reference]])[0], reblurred, noise=aligned.noise)
        for photo, reblurred in zip(aligned.linear, blur_with(base, seed), strict=True)
    ]
    weighted = replace(aligned, consistency=aligned.consistency * torch.stack(agreements))
    sharp, kernels = blind_deconvolve(
        weighted,
        accumulated,
        seed,
        reference_information=reference_information,
        params=BlindDeconvolutionParams(rounds=params.tile_rounds),
    )
    reblurred = blur_with(sharp, kernels, reference=aligned.reference)
    explained = agreement(reblurred[aligned.reference], base, noise=aligned.noise)
    shake_weight = _ramp(_radius(kernels[aligned.reference]), params.radius_ramp)
    # Merging can only blur a sharp photo, unless it reduces noise.
    denoised = torch.lerp(base, accumulated, _ramp(aligned.noise, params.noise_ramp))
    fallback = torch.lerp(denoised, accumulated, shake_weight)
    # A frequency that all kernels attenuate would be amplified noise.
    reliability = (
        shake_weight
        * _ramp(mtf_max(kernels, base), params.mtf_ramp)
        * (1 - _ramp(_misfit(weighted, reblurred, params), params.misfit_ramp))
    )
    return torch.lerp(fallback, sharp, explained * reliability), explained * weighted.consistency.mean(0)


def _misfit(aligned: AlignedBurst, reblurred: Tensor, params: BurstParams) -> float:
    """Error of the re-blurred image, [T, 3, H, W], over the noise of the photos."""
    rim = min(params.border_px, min(reblurred.shape[2:]) // 4)  # a tile is faded out there
    inner = (..., slice(rim, -rim), slice(rim, -rim))
    error = reblurred[inner].clamp_min(0).sqrt() - aligned.linear[inner].clamp_min(0).sqrt()
    consistency = aligned.consistency[inner].clamp_min(1e-6)
    size = ((error.square().mean(1) * consistency).sum() / consistency.sum()).sqrt()
    return float(size) / (aligned.noise + params.interpolation_noise)


def _radius(kernel: Tensor) -> float:
    """Root mean square distance of a kernel [S, S] from its centre of mass, in pixels."""
    offsets = torch.arange(len(kernel), dtype=kernel.dtype, device=kernel.device)
    variance = 0.0
    for profile in (kernel.sum(0), kernel.sum(1)):
        middle = (profile * offsets).sum()
        variance += float((profile * (offsets - middle).square()).sum())
    return math.sqrt(max(variance, 0.0))


def _ramp(value: float, ramp: Ramp) -> float:
    low, high = ramp
    return min(max((value - low) / (high - low), 0.0), 1.0)


def _initial_kernels(aligned: AlignedBurst, accumulated: Tensor, params: BurstParams) -> tuple[Tensor, float]:
    """Kernels [T, S, S] of the most textured part, as small as possible; and its `kernel_information`."""
    factor = max(1, round(max(accumulated.shape[-2:]) / params.kernel_view_px))
    small, start = _most_textured_crop(aligned, accumulated, factor, params.seed_px)
    reference_information = kernel_information(start)
    side = min(params.kernel_px, (min(start.shape[-2:]) - 1) // 2 * 2 + 1)
    _, kernels = blind_deconvolve(
        small,
        start,
        start.new_zeros(len(small.linear), side, side),
        reference_information=reference_information,
    )
    return _trim(_upsample_kernels(kernels, factor), room=params.kernel_room_px), reference_information


def _most_textured_crop(
    aligned: AlignedBurst, accumulated: Tensor, factor: int, side: int
) -> tuple[AlignedBurst, Tensor]:
    """The most textured part of photos and accumulated image, `side` pixels at 1 / `factor` of the size."""
    image = _downsample(accumulated[None], factor)[0]
    parts = [(rows, columns) for rows, columns, _ in _tiles(image.shape[-2:], tile=side, overlap=side // 2)]
    rows, columns = max(parts, key=lambda part: kernel_information(image[:, part[0], part[1]]))
    linear = _downsample(aligned.linear, factor)[..., rows, columns]
    consistency = _downsample(aligned.consistency[None], factor)[0][..., rows, columns]
    return replace(aligned, linear=linear, consistency=consistency), image[:, rows, columns]


def _downsample(images: Tensor, factor: int) -> Tensor:
    return images if factor == 1 else interpolate(images, scale_factor=1 / factor, mode="area")


def _upsample_kernels(kernels: Tensor, factor: int) -> Tensor:
    if factor == 1:
        return kernels
    side = kernels.shape[-1] * factor // 2 * 2 + 1
    large = interpolate(kernels[None], (side, side), mode="bilinear")[0]
    return large / large.sum((1, 2), keepdim=True)


def _trim(kernels: Tensor, *, room: int) -> Tensor:
    """The kernels without their common empty rim, except for `room` pixels."""
    half = kernels.shape[-1] // 2
    support = kernels.amax(0) > 0
    distance = (torch.arange(2 * half + 1) - half).abs()
    half_extent = int(max(distance[support.any(1)].max(), distance[support.any(0)].max())) + room
    cut = max(half - half_extent, 0)
    return kernels[:, cut : 2 * half + 1 - cut, cut : 2 * half + 1 - cut].contiguous()


def _tiles(size: Sequence[int], *, tile: int, overlap: int) -> Iterator[tuple[slice, slice, Tensor]]:
    """Tiles of an image [H, W] as rows, columns and raised-cosine weights that sum to 1 everywhere."""
    down, across = (
        list(zip(parts, blend_weights(parts), strict=True))
        for parts in (tile_ranges(length, tile=tile, overlap=overlap) for length in size)
    )
    for (rows, fade), (columns, fade_across) in product(down, across):
        yield slice(*rows), slice(*columns), fade[:, None] * fade_across
