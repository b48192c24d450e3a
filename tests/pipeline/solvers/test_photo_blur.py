"""One blurred photograph: its field is found and undone, and what is sharp keeps its bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from freezeframe.data.blur.blocks import block_mean
from freezeframe.data.blur.operator import blur
from freezeframe.data.color import SRGB, to_encoded, to_linear
from freezeframe.data.metrics.image import psnr_from_mse
from freezeframe.data.synthesis.clips.clips import load_pictures
from freezeframe.data.synthesis.degradations.compose import degrade
from freezeframe.models.deblur.blur_field import BlurField, estimate_blur_field, textured
from freezeframe.models.registry.bundled import read_blur_field_net, read_psf_estimator
from freezeframe.motion.camera.blur_fit import CameraBlur
from freezeframe.pipeline.solvers.field_deconvolution import deconvolve_along_field
from freezeframe.pipeline.solvers.photo_blur import estimate_photo_blur
from freezeframe.pipeline.solvers.photo_deblur import deblur_photo
from freezeframe.pipeline.support.crops import center_crop
from freezeframe.pipeline.training.restorer_task import bytes_to_float

SIZE = (160, 192)  # pixels


def landscape(*, seed=0):
    """Grey discs before each other: sharp edges of all directions."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    picture = np.full(SIZE, 0.5)
    for _ in range(400):
        column, row = rng.uniform(0, SIZE[1]), rng.uniform(0, SIZE[0])
        cover = np.clip(rng.uniform(2, 14) + 0.5 - np.hypot(x - column, y - row), 0, 1)
        picture = picture * (1 - cover) + cover * rng.uniform(0.1, 0.9)
    return rounded(torch.from_numpy(picture).float().expand(3, -1, -1).contiguous())


@pytest.fixture(scope="module")
def photos(shared_data):
    return [
        center_crop(bytes_to_float(picture), 256).contiguous()
        for picture in load_pictures(shared_data / "test" / "photos")
    ]


def rounded(encoded):
    return (encoded * 255).round() / 255


def turned(*parameters, size=SIZE):
    return CameraBlur(parameters=torch.tensor(parameters), score=0.0, still_score=0.0).vectors(size)


def blurred(sharp, vectors):
    return rounded(to_encoded(blur(to_linear(sharp, SRGB), vectors).clamp(0, 1), SRGB))


def known(vectors):
    blocks = block_mean(vectors)
    ones = torch.ones_like(blocks[0])
    return BlurField(vectors=blocks, radius=0 * ones, blurred=ones, confidence=ones)


def psnr(encoded, truth):
    return psnr_from_mse(float((encoded - truth).double().square().mean()), peak=1.0)


def test_a_known_field_is_undone():
    sharp, vectors = landscape(), turned(7.0, 2.0, 3.0, 0.0, 0.0, 0.0)
    photo = blurred(sharp, vectors)
    assert psnr(deconvolve_along_field(photo, known(vectors)), sharp) > psnr(photo, sharp) + 3


def test_along_a_wrong_field_little_is_changed():
    """No sharp image gives the photograph back when it is blurred across its true motion."""
    sharp, vectors = landscape(), turned(12.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    photo = blurred(sharp, vectors)
    right, wrong = (deconvolve_along_field(photo, known(each)) for each in (vectors, vectors.flip(0)))
    assert float((wrong - photo).abs().mean()) < 0.4 * float((right - photo).abs().mean())


def test_a_field_of_zeros_keeps_every_bit():
    photo, zeros = landscape(), torch.zeros(SIZE[0] // 4, SIZE[1] // 4)
    still = BlurField(vectors=zeros.expand(2, -1, -1), radius=zeros, blurred=zeros, confidence=zeros + 1)
    assert torch.equal(deconvolve_along_field(photo, still), photo)


def test_noise_is_not_raised_where_blur_is_undone():
    sharp, vectors = landscape(), turned(8.0, 3.0, 0.0, 0.0, 0.0, 0.0)
    noise = torch.randn(sharp.shape, generator=torch.Generator().manual_seed(1))
    photo = rounded((blurred(sharp, vectors) + 6 / 255 * noise).clamp(0, 1))
    assert psnr(deconvolve_along_field(photo, known(vectors)), sharp) > psnr(photo, sharp) + 0.5


@pytest.mark.slow
def test_the_field_of_a_turning_camera_is_seen_and_undone(photos):
    gains = []
    for photo, spin in zip(photos, (3.0, -4.0, 2.0, 5.0), strict=True):
        vectors = turned(8.0, 3.0, spin, 1.0, 0.0, 0.0, size=photo.shape[1:])
        seen = blurred(photo, vectors)
        field = estimate_photo_blur(read_psf_estimator(), seen)
        truth = block_mean(vectors)
        error = torch.minimum((field.vectors - truth).norm(dim=0), (field.vectors + truth).norm(dim=0))
        assert float((error < 1)[textured(seen)].float().mean()) > 0.75
        gains.append(psnr(deconvolve_along_field(seen, field), photo) - psnr(seen, photo))
    assert min(gains) > 1.5
    assert sum(gains) / len(gains) > 3


@pytest.mark.slow
def test_a_quarter_turn_of_the_picture_turns_its_field(photos):
    seen = blurred(photos[0], turned(8.0, 3.0, 2.0, 0.0, 0.0, 0.0, size=(256, 256)))
    estimator = read_psf_estimator()
    x, y = estimate_photo_blur(estimator, seen).vectors
    field = estimate_photo_blur(estimator, seen.rot90(1, (-2, -1)).contiguous()).vectors
    # Counter-clockwise: what pointed right points up, and y points down.
    expected = torch.stack([y, -x]).rot90(1, (-2, -1))
    error = torch.minimum((field - expected).norm(dim=0), (field + expected).norm(dim=0))
    assert float(error.mean()) < 1


@pytest.mark.slow
def test_a_sharp_photograph_keeps_every_bit(photos):
    for photo in photos:
        field = estimate_photo_blur(read_psf_estimator(), photo)
        assert not bool(field.vectors.any())
        assert torch.equal(deconvolve_along_field(photo, field), photo)


@pytest.mark.slow
def test_the_better_explained_of_two_fields_is_taken(photos):
    """Neither field alone gives a sharper photograph than the choice between them, but by a little."""
    network, estimator = read_blur_field_net(), read_psf_estimator()
    vectors = turned(8.0, 3.0, 3.0, 1.0, 0.0, 0.0, size=(256, 256))
    seen = blurred(photos[0], vectors)
    both = psnr(deblur_photo(network, estimator, seen).encoded, photos[0])
    for field in (estimate_blur_field(network, seen), estimate_photo_blur(estimator, seen)):
        assert both > psnr(deconvolve_along_field(seen, field), photos[0]) - 0.3
    assert both > psnr(seen, photos[0]) + 2


@pytest.mark.slow
def test_sharp_and_noisy_photographs_keep_every_bit(photos):
    network, estimator = read_blur_field_net(), read_psf_estimator()
    for kind in ("clean", "noise", "jpeg"):
        for seed, photo in enumerate(photos):
            picture = degrade(photo, kind, seed=seed, strength=0.3)
            assert torch.equal(deblur_photo(network, estimator, picture).encoded, picture)
