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

from freezeframe.models.imageops.tiling import fades, spans
from freezeframe.motion.camera.homography import camera_flow, homography
from freezeframe.motion.diagnosis.diagnose import noise_level
from freezeframe.motion.flow.consistency import inside
from freezeframe.motion.flow.estimators import gamma_luma
from freezeframe.pipeline.support.progress import Advance, quiet

from .blind_deconvolution import Shaken, blurred_by, kept, texture, unshake

POWER = 7.0
PATCH, SHARED = 128, 64  # pixels: patches of the accumulation, and what two of them share
TILE, OVERLAP = 256, 96  # pixels: tiles with one kernel per photo, and what two of them share
BORDER = 32  # pixels added around the picture, of which nothing is known
SEED = 384  # pixels of the side of the part in which the kernels are found first
KERNEL = 31  # pixels of the side of the kernels there
SMALLEST = 16  # pixels of the shorter side: less cannot be aligned
ROUNDS = 4  # in each tile, from those kernels on
VIEW = 1024  # pixels of the longer side of the picture there
WHITE = 0.98  # light at and above which a sensor has lost count
SHAKY = (0.3, 0.7)  # pixels: radius of the reference's kernel from which, and beyond which, shake is undone
KEPT = (0.25, 0.38)  # share of frequencies that some photo kept, up to and beyond which blur may be undone
MISFIT = (1.8, 2.4)  # differences from the photos, in units of their noise, which are and are not believable
INTERPOLATED = 0.003  # gamma-coded error that laying photos onto each other makes
NOISY = (0.007, 0.014)  # gamma-coded noise from which, and beyond which, even sharp photos are merged
MISMATCH = 0.05  # difference of square roots of light at which belief is down to a third


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """One picture from many."""

    image: Tensor  # [3, H, W] linear RGB, on the reference's grid
    confidence: Tensor  # [H, W] in [0, 1]: how many photos agree there, and with the result
    reference: int  # which photo it was laid on


def fuse_burst(photos: Sequence[Tensor], *, strength: float = 1.0, progress: Advance = quiet) -> Merged:
    """Merge photos of one scene, taken one after the other by hand.

    Args:
        photos: [3, H, W] linear RGB each, all of one size, in any order.
        strength: 0 returns the sharpest photo as it is, 1 the full result.
        progress: Told of each photo that is laid on the reference, of merging and of undoing the blur.
    """
    burst = torch.stack(list(photos))
    reference = int(sharpness(burst).argmax())
    if len(burst) == 1 or min(burst.shape[2:]) < SMALLEST:
        alone = burst[reference]
        return Merged(image=alone, confidence=torch.zeros_like(alone[0]), reference=reference)
    steps = len(burst) + 2
    progress(0, steps)
    shaken = laid_on(burst, reference, placed=lambda: progress(1, steps))
    safe = accumulate(_filled(shaken), shaken.trust, power=POWER)
    progress(1, steps)
    sharp, confidence = _unshaken(shaken, safe)
    progress(1, steps)
    image = torch.lerp(burst[reference], sharp.clamp(0, 1), strength)
    return Merged(image=image, confidence=confidence, reference=reference)


def sharpness(burst: Tensor) -> Tensor:
    """[T] how much fine detail each photo of [T, 3, H, W] kept: mean slope, once noise is smoothed away."""
    found = []
    for photo in burst:
        luma = cv2.GaussianBlur(gamma_luma(photo).cpu().numpy(), (0, 0), 1.0)
        down, across = (torch.from_numpy(cv2.Sobel(luma, cv2.CV_32F, *axis)) for axis in ((0, 1), (1, 0)))
        found.append((down.square() + across.square()).mean())
    return torch.stack(found)


def laid_on(burst: Tensor, reference: int, *, placed: Callable[[], None] = lambda: None) -> Shaken:
    """All photos of [T, 3, H, W] on the reference's grid, as bright as it, and where they show the same."""
    base = burst[reference]
    noise = noise_level(gamma_luma(base).cpu().numpy())
    light, trust = [], []
    for number, photo in enumerate(burst):
        # To the finest pictures: on four bursts it gains 0.3 dB over stopping where exposures differ.
        matrix = (
            homography(base, photo, finest=True) if number != reference else torch.eye(3, dtype=torch.float64)
        )
        laid, seen = (base, torch.zeros_like(base[0])) if matrix is None else _laid(base, photo, matrix)
        light.append(laid)
        trust.append(seen)
        placed()
    return Shaken(light=torch.stack(light), trust=torch.stack(trust), reference=reference, noise=noise)


def accumulate(aligned: Tensor, trust: Tensor, *, power: float) -> Tensor:
    """Merge aligned frames, weighting each spatial frequency by how much of it a frame kept.

    Blur only ever weakens a frequency, so the strongest copy is the least blurred
    (Delbracio & Sapiro 2015, Fourier burst accumulation). Patches, faded into each other, keep what moves in
    one place from spoiling another.

    Args:
        aligned: Frames on one pixel grid. [T, 3, H, W] linear RGB.
        trust: [T, H, W] in [0, 1]; a frame counts in a patch as far as it is trusted there.
        power: 0 averages; large values take each frequency from its sharpest frame.

    Returns:
        [3, H, W] linear RGB.
    """
    merged = torch.zeros_like(aligned[0])
    for rows, columns, weight in _parts(aligned.shape[-2:], tile=PATCH, overlap=SHARED):
        counts = trust[:, rows, columns].mean((1, 2)).view(-1, 1, 1, 1).clamp_min(1e-6)
        spectra = torch.fft.rfft2(aligned[..., rows, columns].clamp_min(0).sqrt())
        height = _soft(spectra.abs().mean(1, keepdim=True))
        # Where no frame has anything, all have the same nothing.
        shares = counts * ((height + 1e-9) / (height.amax(0) + 1e-9)) ** power
        patch = torch.fft.irfft2((shares / shares.sum(0) * spectra).sum(0), s=weight.shape)
        merged[:, rows, columns] += weight.to(patch) * patch.clamp_min(0).square()
    return merged


def _soft(height: Tensor) -> Tensor:
    """Heights of frequencies, [T, 1, H, W / 2 + 1], smoothed so that noise does not choose between frames."""
    return avg_pool2d(pad(height, (2, 2, 2, 2), mode="replicate"), 5, stride=1)


def _laid(base: Tensor, photo: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """A photo on the grid and at the brightness of `base`, and where it shows the same."""
    shift = camera_flow(matrix, (base.shape[1], base.shape[2])).to(base)
    laid = _drawn(photo, matrix).clamp_min(0)
    seen = (inside(shift) & (laid.amax(0) < WHITE)).to(base)
    both = (seen * (base.amax(0) < WHITE)).bool() & (laid.amin(0) > 0.02)
    if both.any():
        laid = laid * (base[:, both].mean(1) / laid[:, both].mean(1)).clamp(0.5, 2).view(3, 1, 1)
    # So soft that no shake tells: what still differs has moved.
    return laid, seen * _agreement(base, laid, noise=0.0, spread=6.0)


def _drawn(photo: Tensor, matrix: Tensor) -> Tensor:
    """A photo seen through a homography. Lanczos: sharp photos lose a decibel less than by Catmull-Rom."""
    pixels = photo.permute(1, 2, 0).contiguous().cpu().numpy()
    drawn = cv2.warpPerspective(
        pixels,
        matrix.cpu().numpy(),
        pixels.shape[1::-1],
        flags=cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return torch.from_numpy(drawn).permute(2, 0, 1).to(photo)


def _agreement(one: Tensor, other: Tensor, *, noise: float, spread: float = 2.0) -> Tensor:
    """[H, W] belief that two pictures show the same, compared over `spread` pixels."""
    difference = (one.clamp_min(0).sqrt() - other.clamp_min(0).sqrt()).cpu().numpy()
    if spread > 2:  # blur may differ, so signs must be able to cancel
        soft = [abs(cv2.GaussianBlur(channel, (0, 0), spread)) for channel in difference]
    else:
        soft = [cv2.GaussianBlur(abs(channel), (0, 0), spread) for channel in difference]
    worst = torch.stack([torch.from_numpy(channel) for channel in soft]).amax(0).to(one)
    return torch.exp(-(worst / (MISMATCH + 2 * noise)).square())


def _filled(shaken: Shaken) -> Tensor:
    """The photos with the reference where they are not to be trusted, [T, 3, H, W]."""
    return torch.lerp(shaken.light[shaken.reference], shaken.light, shaken.trust[:, None])


def _unshaken(shaken: Shaken, safe: Tensor) -> tuple[Tensor, Tensor]:
    """The picture before all shake where it explains the reference, else `safe`; and the confidence in it."""
    seed, usual = _first_kernels(shaken, safe)
    sides = (BORDER, BORDER, BORDER, BORDER)
    light, around = pad(shaken.light, sides, mode="replicate"), pad(safe[None], sides, mode="replicate")[0]
    trust = pad(shaken.trust, sides)
    merged, confidence = torch.zeros_like(around), torch.zeros_like(around[0])
    for rows, columns, weight in _parts(light.shape[-2:], tile=TILE, overlap=OVERLAP):
        part = replace(shaken, light=light[..., rows, columns], trust=trust[..., rows, columns])
        image, belief = _tile(part, around[:, rows, columns], seed, usual)
        merged[:, rows, columns] += weight * image
        confidence[rows, columns] += weight * belief
    inner = slice(BORDER, -BORDER)
    return merged[:, inner, inner], confidence[inner, inner]


def _tile(shaken: Shaken, safe: Tensor, seed: Tensor, usual: float) -> tuple[Tensor, Tensor]:
    base = shaken.light[shaken.reference]
    # The order of two blurs does not matter: k(a) b = k(b) a wherever photos a and b show the same scene.
    crossed = [
        _agreement(blurred_by(photo, seed[[shaken.reference]])[0], again, noise=shaken.noise)
        for photo, again in zip(shaken.light, blurred_by(base, seed), strict=True)
    ]
    trusted = replace(shaken, trust=shaken.trust * torch.stack(crossed))
    sharp, kernels = unshake(trusted, safe, seed, usual=usual, rounds=ROUNDS)
    again = blurred_by(sharp, kernels, reference=shaken.reference)
    explained = _agreement(again[shaken.reference], base, noise=shaken.noise)
    needed = _rise(_radius(kernels[shaken.reference]), *SHAKY)
    # A sharp photo can only lose by being merged, unless there is noise to lose.
    calm = torch.lerp(base, safe, _rise(shaken.noise, *NOISY))
    rest = torch.lerp(calm, safe, needed)
    # Each shake is its own. What all kernels have in common would be sharpened out of noise.
    proven = needed * _rise(kept(kernels, base), *KEPT) * (1 - _rise(_misfit(trusted, again), *MISFIT))
    return torch.lerp(rest, sharp, explained * proven), explained * trusted.trust.mean(0)


def _misfit(shaken: Shaken, explained: Tensor) -> float:
    """By how many times their noise the photos differ from what should explain them, [T, 3, H, W]."""
    rim = min(BORDER, min(explained.shape[2:]) // 4)  # where a tile fades out, nothing is explained
    inner = (..., slice(rim, -rim), slice(rim, -rim))
    wrong = explained[inner].clamp_min(0).sqrt() - shaken.light[inner].clamp_min(0).sqrt()
    trust = shaken.trust[inner].clamp_min(1e-6)
    size = ((wrong.square().mean(1) * trust).sum() / trust.sum()).sqrt()
    return float(size) / (shaken.noise + INTERPOLATED)


def _radius(kernel: Tensor) -> float:
    """Root mean square distance of a kernel [S, S] from its centre of mass, in pixels."""
    reach = torch.arange(len(kernel), dtype=kernel.dtype, device=kernel.device)
    spread = 0.0
    for profile in (kernel.sum(0), kernel.sum(1)):
        middle = (profile * reach).sum()
        spread += float((profile * (reach - middle).square()).sum())
    return math.sqrt(max(spread, 0.0))


def _rise(value: float, low: float, high: float) -> float:
    """0 below `low`, 1 above `high`, straight between."""
    return min(max((value - low) / (high - low), 0.0), 1.0)


def _first_kernels(shaken: Shaken, safe: Tensor) -> tuple[Tensor, float]:
    """Kernels [T, S, S] as found where there is most to see, no larger than needed; and the texture there."""
    shrink = max(1, round(max(safe.shape[-2:]) / VIEW))
    small, start = _richest(shaken, safe, shrink)
    usual = texture(start)
    side = min(KERNEL, (min(start.shape[-2:]) - 1) // 2 * 2 + 1)
    _, kernels = unshake(small, start, start.new_zeros(len(small.light), side, side), usual=usual)
    return _trimmed(_enlarged(kernels, shrink)), usual


def _richest(shaken: Shaken, safe: Tensor, shrink: int) -> tuple[Shaken, Tensor]:
    """The part with most texture of the photos and of their safe merger, SEED pixels a side when reduced."""
    picture = _reduced(safe[None], shrink)[0]
    parts = [(rows, columns) for rows, columns, _ in _parts(picture.shape[-2:], tile=SEED, overlap=SEED // 2)]
    rows, columns = max(parts, key=lambda part: texture(picture[:, part[0], part[1]]))
    light = _reduced(shaken.light, shrink)[..., rows, columns]
    trust = _reduced(shaken.trust[None], shrink)[0][..., rows, columns]
    return replace(shaken, light=light, trust=trust), picture[:, rows, columns]


def _reduced(images: Tensor, shrink: int) -> Tensor:
    return images if shrink == 1 else interpolate(images, scale_factor=1 / shrink, mode="area")


def _enlarged(kernels: Tensor, factor: int) -> Tensor:
    if factor == 1:
        return kernels
    side = kernels.shape[-1] * factor // 2 * 2 + 1
    large = interpolate(kernels[None], (side, side), mode="bilinear")[0]
    return large / large.sum((1, 2), keepdim=True)


def _trimmed(kernels: Tensor, *, room: int = 3) -> Tensor:
    """The same kernels without the empty rim that they share, but for `room` pixels to grow."""
    half = kernels.shape[-1] // 2
    filled = kernels.amax(0) > 0
    apart = (torch.arange(2 * half + 1) - half).abs()
    reach = int(max(apart[filled.any(1)].max(), apart[filled.any(0)].max())) + room
    cut = max(half - reach, 0)
    return kernels[:, cut : 2 * half + 1 - cut, cut : 2 * half + 1 - cut].contiguous()


def _parts(size: Sequence[int], *, tile: int, overlap: int) -> Iterator[tuple[slice, slice, Tensor]]:
    """Tiles of a picture [H, W] as rows, columns and raised-cosine weights that sum to 1 everywhere."""
    down, across = (
        list(zip(parts, fades(parts), strict=True))
        for parts in (spans(length, tile=tile, overlap=overlap) for length in size)
    )
    for (rows, fade), (columns, fade_across) in product(down, across):
        yield slice(*rows), slice(*columns), fade[:, None] * fade_across
