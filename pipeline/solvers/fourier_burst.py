"""A burst of shaken photos merged into one: each place and frequency from the photos that kept it.

Photos are laid onto the sharpest of them. Fourier burst accumulation (Delbracio & Sapiro 2015) takes every
frequency from where it is strongest, and is the safe result; from it `shake` finds the kernel of each photo
and the picture before all blur. Where that picture, blurred again, does not explain the reference photo,
the safe result stays.

Nothing here takes a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import cv2
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

from freezeframe.models.imageops.tiling import blend_weights, tile_ranges
from freezeframe.motion.camera.homography import (
    HomographyConfig,
    estimate_homography,
    homography_to_flow,
)
from freezeframe.motion.diagnosis.diagnose import noise_level
from freezeframe.motion.flow.consistency import in_bounds
from freezeframe.motion.flow.estimators import gamma_luma
from freezeframe.pipeline.support.progress import ProgressCallback, null_progress

from .blind_deconvolution import AlignedBurst, blind_deconvolve, blur_with, kernel_information, mtf_max

POWER = 7.0
PATCH_SIZE, PATCH_OVERLAP = 128, 64  # pixels: patches of the accumulation, and what two of them share
TILE_SIZE, TILE_OVERLAP = 256, 96  # pixels: tiles with one kernel per photo, and what two of them share
BORDER = 32  # pixels added around the picture, of which nothing is known
SEED_SIZE = 384  # pixels of the side of the part in which the kernels are found first
KERNEL_SIZE = 31  # pixels of the side of the kernels there
MIN_SIDE = 16  # pixels of the shorter side: less cannot be aligned
ROUNDS = 4  # in each tile, from those kernels on
KERNEL_VIEW_SIZE = 1024  # pixels of the longer side of the picture there
SATURATION = 0.98  # light at and above which a sensor has lost count
RADIUS_RAMP = (
    0.3,
    0.7,
)  # pixels: radius of the reference's kernel from which, and beyond which, shake is undone
MTF_RAMP = (
    0.25,
    0.38,
)  # share of frequencies that some photo kept, up to and beyond which blur may be undone
MISFIT_RAMP = (
    1.8,
    2.4,
)  # differences from the photos, in units of their noise, which are and are not believable
INTERPOLATION_NOISE = 0.003  # gamma-coded error that laying photos onto each other makes
NOISE_RAMP = (0.007, 0.014)  # gamma-coded noise from which, and beyond which, even sharp photos are merged
DIFFERENCE_SCALE = 0.05  # difference of square roots of light at which belief is down to a third


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedBurst:
    """One picture from many."""

    image: Tensor  # [3, H, W] linear RGB, on the reference's grid
    confidence: Tensor  # [H, W] in [0, 1]: how many photos agree there, and with the result
    reference: int  # which photo it was laid on


def fuse_burst(
    photos: Sequence[Tensor], *, strength: float = 1.0, progress: ProgressCallback = null_progress
) -> MergedBurst:
    """Merge photos of one scene, taken one after the other by hand.

    Args:
        photos: [3, H, W] linear RGB each, all of one size, in any order.
        strength: 0 returns the sharpest photo as it is, 1 the full result.
        progress: Told of each photo that is laid on the reference, of merging and of undoing the blur.
    """
    burst = torch.stack(list(photos))
    reference = int(sharpness(burst).argmax())
    if len(burst) == 1 or min(burst.shape[2:]) < MIN_SIDE:
        alone = burst[reference]
        return MergedBurst(image=alone, confidence=torch.zeros_like(alone[0]), reference=reference)
    steps = len(burst) + 2
    progress(0, steps)
    aligned = align_burst(burst, reference, on_aligned=lambda: progress(1, steps))
    safe = accumulate(_fill_from_reference(aligned), aligned.consistency, power=POWER)
    progress(1, steps)
    sharp, confidence = _deconvolve_tiles(aligned, safe)
    progress(1, steps)
    image = torch.lerp(burst[reference], sharp.clamp(0, 1), strength)
    return MergedBurst(image=image, confidence=confidence, reference=reference)


def sharpness(burst: Tensor) -> Tensor:
    """[T] how much fine detail each photo of [T, 3, H, W] kept: mean slope, once noise is smoothed away."""
    scores = []
    for photo in burst:
        luma = cv2.GaussianBlur(gamma_luma(photo).cpu().numpy(), (0, 0), 1.0)
        down, across = (torch.from_numpy(cv2.Sobel(luma, cv2.CV_32F, *axis)) for axis in ((0, 1), (1, 0)))
        scores.append((down.square() + across.square()).mean())
    return torch.stack(scores)


def align_burst(
    burst: Tensor, reference: int, *, on_aligned: Callable[[], None] = lambda: None
) -> AlignedBurst:
    """All photos of [T, 3, H, W] on the reference's grid, as bright as it, and where they show the same."""
    base = burst[reference]
    noise = noise_level(gamma_luma(base).cpu().numpy())
    linear, consistency = [], []
    for number, photo in enumerate(burst):
        # To the finest pictures: on four bursts it gains 0.3 dB over stopping where exposures differ.
        matrix = (
            estimate_homography(base, photo, config=HomographyConfig(finest=True))
            if number != reference
            else torch.eye(3, dtype=torch.float64)
        )
        warped, agreement = (
            (base, torch.zeros_like(base[0])) if matrix is None else _align(base, photo, matrix)
        )
        linear.append(warped)
        consistency.append(agreement)
        on_aligned()
    return AlignedBurst(
        linear=torch.stack(linear), consistency=torch.stack(consistency), reference=reference, noise=noise
    )


def accumulate(aligned: Tensor, consistency: Tensor, *, power: float) -> Tensor:
    """Merge aligned frames, weighting each spatial frequency by how much of it a frame kept.

    Blur only ever weakens a frequency, so the strongest copy is the least blurred
    (Delbracio & Sapiro 2015, Fourier burst accumulation). Patches, faded into each other, keep what moves in
    one place from spoiling another.

    Args:
        aligned: Frames on one pixel grid. [T, 3, H, W] linear RGB.
        consistency: [T, H, W] in [0, 1]; a frame counts in a patch as far as it is trusted there.
        power: 0 averages; large values take each frequency from its sharpest frame.

    Returns:
        [3, H, W] linear RGB.
    """
    merged = torch.zeros_like(aligned[0])
    for rows, columns, weight in _tiles(aligned.shape[-2:], tile=PATCH_SIZE, overlap=PATCH_OVERLAP):
        frame_weights = consistency[:, rows, columns].mean((1, 2)).view(-1, 1, 1, 1).clamp_min(1e-6)
        spectra = torch.fft.rfft2(aligned[..., rows, columns].clamp_min(0).sqrt())
        height = _smooth(spectra.abs().mean(1, keepdim=True))
        # Where no frame has anything, all have the same nothing.
        shares = frame_weights * ((height + 1e-9) / (height.amax(0) + 1e-9)) ** power
        patch = torch.fft.irfft2((shares / shares.sum(0) * spectra).sum(0), s=weight.shape)
        merged[:, rows, columns] += weight.to(patch) * patch.clamp_min(0).square()
    return merged


def _smooth(height: Tensor) -> Tensor:
    """Heights of frequencies, [T, 1, H, W / 2 + 1], smoothed so that noise does not choose between frames."""
    return avg_pool2d(pad(height, (2, 2, 2, 2), mode="replicate"), 5, stride=1)


def _align(base: Tensor, photo: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """A photo on the grid and at the brightness of `base`, and where it shows the same."""
    shift = homography_to_flow(matrix, (base.shape[1], base.shape[2])).to(base)
    warped = _warp_homography(photo, matrix).clamp_min(0)
    agreement = (in_bounds(shift) & (warped.amax(0) < SATURATION)).to(base)
    both = (agreement * (base.amax(0) < SATURATION)).bool() & (warped.amin(0) > 0.02)
    if both.any():
        warped = warped * (base[:, both].mean(1) / warped[:, both].mean(1)).clamp(0.5, 2).view(3, 1, 1)
    # So soft that no shake tells: what still differs has moved.
    return warped, agreement * _agreement(base, warped, noise=0.0, sigma=6.0)


def _warp_homography(photo: Tensor, matrix: Tensor) -> Tensor:
    """A photo seen through a homography. Lanczos: sharp photos lose a decibel less than by Catmull-Rom."""
    pixels = photo.permute(1, 2, 0).contiguous().cpu().numpy()
    warped = cv2.warpPerspective(
        pixels,
        matrix.cpu().numpy(),
        pixels.shape[1::-1],
        flags=cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return torch.from_numpy(warped).permute(2, 0, 1).to(photo)


def _agreement(one: Tensor, other: Tensor, *, noise: float, sigma: float = 2.0) -> Tensor:
    """[H, W] belief that two pictures show the same, compared over `sigma` pixels."""
    difference = (one.clamp_min(0).sqrt() - other.clamp_min(0).sqrt()).cpu().numpy()
    if sigma > 2:  # blur may differ, so signs must be able to cancel
        smoothed = [abs(cv2.GaussianBlur(channel, (0, 0), sigma)) for channel in difference]
    else:
        smoothed = [cv2.GaussianBlur(abs(channel), (0, 0), sigma) for channel in difference]
    worst = torch.stack([torch.from_numpy(channel) for channel in smoothed]).amax(0).to(one)
    return torch.exp(-(worst / (DIFFERENCE_SCALE + 2 * noise)).square())


def _fill_from_reference(aligned: AlignedBurst) -> Tensor:
    """The photos with the reference where they are not to be trusted, [T, 3, H, W]."""
    return torch.lerp(aligned.linear[aligned.reference], aligned.linear, aligned.consistency[:, None])


def _deconvolve_tiles(aligned: AlignedBurst, safe: Tensor) -> tuple[Tensor, Tensor]:
    """The picture before all shake where it explains the reference, else `safe`; and the confidence in it."""
    seed, reference_information = _initial_kernels(aligned, safe)
    sides = (BORDER, BORDER, BORDER, BORDER)
    linear, padded = pad(aligned.linear, sides, mode="replicate"), pad(safe[None], sides, mode="replicate")[0]
    consistency = pad(aligned.consistency, sides)
    merged, confidence = torch.zeros_like(padded), torch.zeros_like(padded[0])
    for rows, columns, weight in _tiles(linear.shape[-2:], tile=TILE_SIZE, overlap=TILE_OVERLAP):
        part = replace(
            aligned, linear=linear[..., rows, columns], consistency=consistency[..., rows, columns]
        )
        image, tile_confidence = _tile(part, padded[:, rows, columns], seed, reference_information)
        merged[:, rows, columns] += weight * image
        confidence[rows, columns] += weight * tile_confidence
    inner = slice(BORDER, -BORDER)
    return merged[:, inner, inner], confidence[inner, inner]


def _tile(
    aligned: AlignedBurst, safe: Tensor, seed: Tensor, reference_information: float
) -> tuple[Tensor, Tensor]:
    base = aligned.linear[aligned.reference]
    # The order of two blurs does not matter: k(a) b = k(b) a wherever photos a and b show the same scene.
    agreements = [
        _agreement(blur_with(photo, seed[[aligned.reference]])[0], reblurred, noise=aligned.noise)
        for photo, reblurred in zip(aligned.linear, blur_with(base, seed), strict=True)
    ]
    weighted = replace(aligned, consistency=aligned.consistency * torch.stack(agreements))
    sharp, kernels = blind_deconvolve(
        weighted, safe, seed, reference_information=reference_information, rounds=ROUNDS
    )
    reblurred = blur_with(sharp, kernels, reference=aligned.reference)
    explained = _agreement(reblurred[aligned.reference], base, noise=aligned.noise)
    shake_weight = _ramp(_radius(kernels[aligned.reference]), *RADIUS_RAMP)
    # A sharp photo can only lose by being merged, unless there is noise to lose.
    denoised = torch.lerp(base, safe, _ramp(aligned.noise, *NOISE_RAMP))
    fallback = torch.lerp(denoised, safe, shake_weight)
    # Each shake is its own. What all kernels have in common would be sharpened out of noise.
    reliability = (
        shake_weight
        * _ramp(mtf_max(kernels, base), *MTF_RAMP)
        * (1 - _ramp(_misfit(weighted, reblurred), *MISFIT_RAMP))
    )
    return torch.lerp(fallback, sharp, explained * reliability), explained * weighted.consistency.mean(0)


def _misfit(aligned: AlignedBurst, explained: Tensor) -> float:
    """By how many times their noise the photos differ from what should explain them, [T, 3, H, W]."""
    rim = min(BORDER, min(explained.shape[2:]) // 4)  # where a tile fades out, nothing is explained
    inner = (..., slice(rim, -rim), slice(rim, -rim))
    wrong = explained[inner].clamp_min(0).sqrt() - aligned.linear[inner].clamp_min(0).sqrt()
    consistency = aligned.consistency[inner].clamp_min(1e-6)
    size = ((wrong.square().mean(1) * consistency).sum() / consistency.sum()).sqrt()
    return float(size) / (aligned.noise + INTERPOLATION_NOISE)


def _radius(kernel: Tensor) -> float:
    """Root mean square distance of a kernel [S, S] from its centre of mass, in pixels."""
    offsets = torch.arange(len(kernel), dtype=kernel.dtype, device=kernel.device)
    variance = 0.0
    for profile in (kernel.sum(0), kernel.sum(1)):
        middle = (profile * offsets).sum()
        variance += float((profile * (offsets - middle).square()).sum())
    return math.sqrt(max(variance, 0.0))


def _ramp(value: float, low: float, high: float) -> float:
    """0 below `low`, 1 above `high`, straight between."""
    return min(max((value - low) / (high - low), 0.0), 1.0)


def _initial_kernels(aligned: AlignedBurst, safe: Tensor) -> tuple[Tensor, float]:
    """Kernels [T, S, S] as found where there is most to see, no larger than needed; and the texture there."""
    factor = max(1, round(max(safe.shape[-2:]) / KERNEL_VIEW_SIZE))
    small, start = _most_textured_crop(aligned, safe, factor)
    reference_information = kernel_information(start)
    side = min(KERNEL_SIZE, (min(start.shape[-2:]) - 1) // 2 * 2 + 1)
    _, kernels = blind_deconvolve(
        small,
        start,
        start.new_zeros(len(small.linear), side, side),
        reference_information=reference_information,
    )
    return _trim(_upsample_kernels(kernels, factor)), reference_information


def _most_textured_crop(aligned: AlignedBurst, safe: Tensor, factor: int) -> tuple[AlignedBurst, Tensor]:
    """The part with most texture of the photos and of their safe merger, SEED pixels a side when reduced."""
    picture = _downsample(safe[None], factor)[0]
    parts = [
        (rows, columns)
        for rows, columns, _ in _tiles(picture.shape[-2:], tile=SEED_SIZE, overlap=SEED_SIZE // 2)
    ]
    rows, columns = max(parts, key=lambda part: kernel_information(picture[:, part[0], part[1]]))
    linear = _downsample(aligned.linear, factor)[..., rows, columns]
    consistency = _downsample(aligned.consistency[None], factor)[0][..., rows, columns]
    return replace(aligned, linear=linear, consistency=consistency), picture[:, rows, columns]


def _downsample(images: Tensor, factor: int) -> Tensor:
    return images if factor == 1 else interpolate(images, scale_factor=1 / factor, mode="area")


def _upsample_kernels(kernels: Tensor, factor: int) -> Tensor:
    if factor == 1:
        return kernels
    side = kernels.shape[-1] * factor // 2 * 2 + 1
    large = interpolate(kernels[None], (side, side), mode="bilinear")[0]
    return large / large.sum((1, 2), keepdim=True)


def _trim(kernels: Tensor, *, room: int = 3) -> Tensor:
    """The same kernels without the empty rim that they share, but for `room` pixels to grow."""
    half = kernels.shape[-1] // 2
    filled = kernels.amax(0) > 0
    apart = (torch.arange(2 * half + 1) - half).abs()
    half_extent = int(max(apart[filled.any(1)].max(), apart[filled.any(0)].max())) + room
    cut = max(half - half_extent, 0)
    return kernels[:, cut : 2 * half + 1 - cut, cut : 2 * half + 1 - cut].contiguous()


def _tiles(size: Sequence[int], *, tile: int, overlap: int) -> Iterator[tuple[slice, slice, Tensor]]:
    """Tiles of a picture [H, W] as rows, columns and raised-cosine weights that sum to 1 everywhere."""
    down, across = (
        list(zip(parts, blend_weights(parts), strict=True))
        for parts in (tile_ranges(length, tile=tile, overlap=overlap) for length in size)
    )
    for (rows, fade), (columns, fade_across) in product(down, across):
        yield slice(*rows), slice(*columns), fade[:, None] * fade_across
