"""Bursts with known truth: the gain of merging, and images that it must not change."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from freezeframe.data.media.photo.files import read_photo
from freezeframe.data.metrics.image import psnr, ssim
from freezeframe.data.synthesis.degradations.sensor import add_poisson_gaussian_noise
from freezeframe.data.synthesis.demo.bookshelf import bookshelf
from freezeframe.data.synthesis.demo.handheld import handheld_scene
from freezeframe.pipeline.solvers.burst_alignment import align_burst, sharpness
from freezeframe.pipeline.solvers.fourier_burst import fourier_burst_accumulation, fuse_burst

Burst = tuple[list[Tensor], list[Tensor]]  # photos, and each of them without shake


def shaken(picture: Tensor, *, seed: int, shake: float = 9.0, count: int = 6) -> Burst:
    scene = handheld_scene(picture, shake=shake, seed=seed, margin=32)
    times = [float(k) for k in range(count)]
    photos = [
        add_poisson_gaussian_noise(scene.blurred(t, shutter=1.0), shot=2e-4, read=1e-3, seed=int(t))
        for t in times
    ]
    return photos, [scene.sharp(t) for t in times]


@pytest.fixture(scope="module")
def shelf() -> Tensor:
    return bookshelf(256, 248, seed=9)


@pytest.fixture(scope="module")
def burst(shelf: Tensor) -> Burst:
    return shaken(shelf, seed=3)


def test_a_shaken_burst_gains_on_its_best_photo(burst: Burst) -> None:
    """At least 3 dB over the mean photo and 1 dB over the sharpest, each against its own truth."""
    photos, truths = burst
    merged = fuse_burst(photos)
    photo_psnrs = [psnr(photo, truth) for photo, truth in zip(photos, truths, strict=True)]
    merged_psnr = psnr(merged.image, truths[merged.reference])
    assert merged_psnr > np.mean(photo_psnrs) + 3
    assert merged_psnr > max(photo_psnrs) + 1
    assert ssim(merged.image, truths[merged.reference]) > ssim(
        photos[merged.reference], truths[merged.reference]
    )


def test_the_order_of_the_photos_does_not_matter(burst: Burst) -> None:
    photos = [photo[:, :128, :128] for photo in burst[0][:4]]
    one, other = fuse_burst(photos), fuse_burst(photos[::-1])
    assert other.reference == len(photos) - 1 - one.reference
    # Sums in another order, in float32, through many transforms: a twentieth of an 8-bit step of light.
    assert (one.image - other.image).abs().max() < 2e-4


def test_sharp_photos_stay_as_they_are(shelf: Tensor) -> None:
    """Merging sharp photos can only blur them: the result is the reference, up to rounding."""
    scene = handheld_scene(shelf, shake=0.1, seed=1, margin=32)
    photos = [scene.sharp(float(k)) for k in range(3)]
    merged = fuse_burst(photos)
    assert (merged.image - photos[merged.reference]).abs().max() < 1e-6


def test_strength_zero_is_the_sharpest_photo(burst: Burst) -> None:
    photos = [photo[:, :96, :96] for photo in burst[0][:3]]
    merged = fuse_burst(photos, strength=0)
    assert torch.equal(merged.image, photos[merged.reference])
    assert merged.reference == int(sharpness(torch.stack(photos)).argmax())


@pytest.mark.parametrize("size", [(1, 1), (15, 40), (16, 16), (40, 33)])
def test_small_pictures_come_through(size: tuple[int, int]) -> None:
    grain = torch.Generator().manual_seed(2)
    merged = fuse_burst([torch.rand(3, *size, generator=grain) for _ in range(3)])
    assert merged.image.shape == (3, *size)
    assert merged.image.isfinite().all()
    assert 0 <= merged.confidence.min() <= merged.confidence.max() <= 1


def test_one_photo_is_its_own_burst(burst: Burst) -> None:
    merged = fuse_burst(burst[0][:1])
    assert torch.equal(merged.image, burst[0][0])
    assert merged.confidence.max() == 0


def test_what_moved_is_shown_once(burst: Burst) -> None:
    """A disc that moves from photo to photo stays at its place in the reference and leaves no ghosts."""
    photos, truths = [list(images) for images in burst]
    for k, (photo, truth) in enumerate(zip(photos, truths, strict=True)):
        for image in (photo, truth):
            image[:] = painted(image, at=(50 + 17 * k, 90))
    merged = fuse_burst(photos)
    truth = truths[merged.reference]
    error = (merged.image.clamp_min(0).sqrt() - truth.sqrt()).abs().amax(0)
    discs = torch.zeros(truth.shape[1:])
    for k in range(len(photos)):
        discs += painted(torch.zeros(3, *truth.shape[1:]), at=(50 + 17 * k, 90))[0] > 0
    # A ghost of one disc in eight would differ by a tenth and more.
    assert error[discs > 0].median() < 0.05


def painted(image: Tensor, *, at: tuple[int, int]) -> Tensor:
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    return torch.from_numpy(cv2.circle(pixels, at, 14, (0.9, 0.05, 0.05), -1)).permute(2, 0, 1)


def test_power_zero_averages_and_noise_falls_with_its_root() -> None:
    """Sixteen frames of noise: a quarter of the noise is left, to the accuracy of so many pixels."""
    flat = torch.full((16, 3, 128, 128), 0.25)
    noisy = flat + 0.01 * torch.randn(flat.shape, generator=torch.Generator().manual_seed(0))
    merged = fourier_burst_accumulation(noisy, torch.ones(16, 128, 128), power=0)
    assert float((merged - 0.25).std()) == pytest.approx(0.01 / 4, rel=0.02)


def test_each_frequency_comes_from_the_frame_that_kept_it() -> None:
    """Vertical stripes are in one frame, horizontal ones in the other: the result has both."""
    x = torch.arange(128) / 8
    down = (0.1 * torch.sin(2 * torch.pi * x)).expand(128, 128)
    frames = torch.stack([0.5 + down, 0.5 + down.T])[:, None].expand(-1, 3, -1, -1).contiguous()
    merged = fourier_burst_accumulation(frames, torch.ones(2, 128, 128), power=11)
    # The square root makes the sum of stripes slightly nonlinear: less than a tenth of their height.
    assert (merged[0] - 0.5 - down - down.T).abs().max() < 0.02


def test_distrusted_frames_have_no_voice() -> None:
    grain = torch.Generator().manual_seed(5)
    frames = torch.rand(2, 3, 96, 96, generator=grain)
    consistency = torch.stack([torch.ones(96, 96), torch.zeros(96, 96)])
    merged = fourier_burst_accumulation(frames, consistency, power=0)
    # One in a million of the other remains, under a square root.
    assert (merged - frames[0]).abs().max() < 1e-4


def test_photos_are_laid_on_and_brought_to_the_reference(burst: Burst) -> None:
    """A sharp photo at half the exposure and nine pixels off is registered to the reference."""
    truths = burst[1]
    pair = torch.stack([truths[0], 0.5 * truths[1]])
    aligned = align_burst(pair, 0)
    inner = (..., slice(24, -24), slice(24, -24))
    error = (aligned.linear[1] - aligned.linear[0])[inner].abs().mean()
    # The error of the interpolation; an offset of one pixel would leave half.
    assert error < 0.15 * (pair[1] - pair[0])[inner].abs().mean()
    assert aligned.consistency[1][inner].median() > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kodim01", "kodim05", "kodim08", "kodim19"])
def test_real_photographs_shaken_gain(shared_data: Path, name: str) -> None:
    picture = read_photo(shared_data / "test" / "photos" / f"{name}.png").linear()
    photos, truths = shaken(picture[:, :480, :560].contiguous(), seed=2, shake=8, count=8)
    merged = fuse_burst(photos)
    photo_psnrs = [psnr(photo, truth) for photo, truth in zip(photos, truths, strict=True)]
    merged_psnr = psnr(merged.image, truths[merged.reference])
    assert merged_psnr > np.mean(photo_psnrs) + 3
    assert merged_psnr > max(photo_psnrs) + 1


@pytest.mark.slow
def test_a_real_burst_keeps_its_colours_and_its_calm(shared_data: Path) -> None:
    """Eight noisy photos: the colours stay, and no ringing steepens the steepest slopes."""
    paths = sorted((shared_data / "test" / "burst").glob("*.jpg"))
    photos = [read_photo(path).linear()[:, 150:450, 420:800].contiguous() for path in paths]
    merged = fuse_burst(photos)
    reference = photos[merged.reference]
    assert (merged.image.mean((1, 2)) - reference.mean((1, 2))).abs().max() < 0.005
    steepest = [image.sqrt().diff(dim=2).abs().quantile(0.999) for image in (merged.image, reference)]
    assert steepest[0] < 1.2 * steepest[1]
