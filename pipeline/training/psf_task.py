"""Training task of the PSF estimator: photos blurred by motion, camera shake and defocus.

Nothing here takes a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from freezeframe.data.color import SRGB, to_encoded, to_linear
from freezeframe.data.srgb import SrgbImage
from freezeframe.data.synthesis.clips.clips import load_pictures
from freezeframe.data.synthesis.degradations.codec import compress_jpeg
from freezeframe.data.synthesis.degradations.psf import convolve, disk_kernel, line_kernel, shake_kernel
from freezeframe.data.synthesis.degradations.sensor import gaussian_noise, shot_noise
from freezeframe.data.synthesis.scene2d.patterns import Generator
from freezeframe.models.deblur.psf_estimator import (
    LAGS,
    MAX_OFFSET,
    NUM_RADII,
    RADIUS_STEP,
    WINDOW,
    PsfEstimator,
    cepstrum,
)

from .loop import Validator
from .objective import is_matrix_weight
from .restorer_task import bytes_to_float, load_center, random_crop

MAX_LENGTH_PX, MAX_RADIUS_PX = 18.0, 5.0  # longest motion blur and largest defocus radius, in pixels
VAL_PSFS_PER_PHOTO = 8  # kernels of each kind per validation photo
MAX_VECTOR_ERROR_PX = 1.5  # largest error of a correct blur vector, in pixels

PsfLabel = tuple[float, float, float]
"""Blur vector (y, x) of the line closest to a kernel, and defocus radius. Pixels."""

PsfSample = tuple[Tensor, PsfLabel]
"""A kernel [K, K], and its label."""


@dataclass(frozen=True, slots=True)
class PsfTask:
    """Estimate blur vector and defocus radius from the cepstrum of a patch."""

    pictures: Sequence[SrgbImage]
    batch_size: int
    patch_size: int
    seed: int
    val_photos: Path | None = None
    uses_muon = staticmethod(is_matrix_weight)

    def network(self) -> nn.Module:
        return PsfEstimator()

    def batch(self, step: int, *, rank: int) -> Tensor:
        """[B, LAGS * LAGS + 3]: the cepstrum, the blur vector in y and x, and the radius."""
        rng = np.random.default_rng((self.seed, rank, step, 7))
        samples = [self._make_sample(rng) for _ in range(self.batch_size)]
        cepstra = cepstrum(torch.stack([encoded for encoded, _ in samples])).flatten(1)
        return torch.cat([cepstra, torch.tensor([label for _, label in samples])], 1)

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        """Cross-entropy of blur vector and radius."""
        offset_log_probs, radius_log_probs = model(batch[:, :-3].reshape(-1, LAGS, LAGS))
        offset_targets, radius_targets = soft_targets(batch[:, -3:-1]), radius_soft_targets(batch[:, -1])
        total: Tensor = (
            -(offset_log_probs * offset_targets).sum((1, 2)).mean()
            - (radius_log_probs * radius_targets).sum(1).mean()
        )
        return total

    def validators(self) -> list[Validator]:
        if self.val_photos is None:
            return []
        photos = [load_center(picture, 2 * WINDOW) for picture in load_pictures(self.val_photos)]
        return [lambda network: estimator_accuracy(network, photos)]

    def _make_sample(self, rng: Generator) -> PsfSample:
        linear = to_linear(bytes_to_float(random_crop(rng, self.pictures, side=self.patch_size)), SRGB)
        kernel, label = draw_psf(rng)
        encoded = to_encoded(convolve(linear, kernel).clamp(0, 1), SRGB)
        return add_sensor_artifacts(rng, encoded), label


def _line(rng: Generator) -> PsfSample:
    length, angle = float(rng.uniform(1, MAX_LENGTH_PX)), float(rng.uniform(0, math.pi))
    return line_kernel(length, angle=angle), (length * math.sin(angle), length * math.cos(angle), 0.0)


def _shake(rng: Generator) -> PsfSample:
    kernel = shake_kernel(float(rng.uniform(1, MAX_LENGTH_PX)), seed=int(rng.integers(2**31)))
    return kernel, (*equivalent_line(kernel), 0.0)


def _disk(rng: Generator) -> PsfSample:
    radius = float(rng.uniform(0.6, MAX_RADIUS_PX))
    return disk_kernel(radius), (0.0, 0.0, radius)


def _none(rng: Generator) -> PsfSample:
    return torch.ones(1, 1), (0.0, 0.0, 0.0)


# Probability and sampler of each kind.
PSF_SAMPLERS: dict[str, tuple[float, Callable[[Generator], PsfSample]]] = {
    "line": (0.45, _line), "shake": (0.12, _shake), "disk": (0.18, _disk), "sharp": (0.25, _none)
}  # fmt: skip


def draw_psf(rng: Generator) -> PsfSample:
    """A random kernel of a random kind of `PSF_SAMPLERS`."""
    name = rng.choice(list(PSF_SAMPLERS), p=[probability for probability, _ in PSF_SAMPLERS.values()])
    return PSF_SAMPLERS[name][1](rng)


def equivalent_line(kernel: Tensor) -> tuple[float, float]:
    """The line (y, x), in pixels, with the variance of `kernel` [K, K] along its principal axis."""
    at = torch.arange(len(kernel)).double() - len(kernel) // 2
    weights = kernel.double()
    y, x = at[:, None].expand_as(weights), at.expand_as(weights)
    y, x = y - (weights * y).sum(), x - (weights * x).sum()
    moments = torch.stack([(weights * a * b).sum() for a, b in ((y, y), (y, x), (x, x))])
    values, axes = torch.linalg.eigh(moments[[0, 1, 1, 2]].reshape(2, 2))
    # A uniform line of length L has variance L^2 / 12; its bilinear rasterisation adds 1 / 6.
    length = float((12 * values[1] - 2).clamp_min(0).sqrt())
    return length * float(axes[0, 1]), length * float(axes[1, 1])


def add_sensor_artifacts(rng: Generator, encoded: Tensor) -> Tensor:
    """Add noise or shot noise and JPEG artifacts, each with some probability, and round to 8 bits."""
    chance, strength, seed = rng.random(), float(rng.uniform(0, 1)), int(rng.integers(2**31))
    if chance < 0.15:
        encoded = gaussian_noise(encoded, sigma=strength**2 * 25 / 255, seed=seed)
    elif chance < 0.25:
        linear = to_linear(encoded.clamp(0, 1), SRGB)
        encoded = to_encoded(shot_noise(linear, strength=0.01 * strength**2, seed=seed).clamp(0, 1), SRGB)
    if rng.random() < 0.3:
        encoded = compress_jpeg(encoded.clamp(0, 1), quality=int(rng.integers(25, 99)))
    return (encoded.clamp(0, 1) * 255).round() / 255


def soft_targets(blur_vectors: Tensor) -> Tensor:
    """[B, 2] blur vectors (y, x) as bilinear weights [B, LAGS, LAGS], half of them at the opposite vector."""
    targets = torch.zeros(len(blur_vectors), LAGS, LAGS, device=blur_vectors.device)
    rows = torch.arange(len(blur_vectors), device=blur_vectors.device)
    for sign in (1, -1):
        low = (sign * blur_vectors).clamp(-MAX_OFFSET, MAX_OFFSET - 1e-3).floor()
        part = (sign * blur_vectors) - low
        for dy in (0, 1):
            for dx in (0, 1):
                weight = (part[:, 0] if dy else 1 - part[:, 0]) * (part[:, 1] if dx else 1 - part[:, 1])
                at = (low + low.new_tensor([dy, dx])).long() + MAX_OFFSET
                targets.index_put_((rows, at[:, 0], at[:, 1]), weight / 2, accumulate=True)
    return targets


def radius_soft_targets(radius: Tensor) -> Tensor:
    """[B] radii in pixels as linear weights [B, NUM_RADII] of the two nearest classes."""
    at = (radius / RADIUS_STEP).clamp(0, NUM_RADII - 1)
    return (1 - (at[:, None] - torch.arange(NUM_RADII, device=radius.device)).abs()).clamp_min(0)


def estimator_accuracy(network: nn.Module, photos: Sequence[Tensor]) -> dict[str, float]:
    """Fraction of blurred photos by kind whose blur vector is within 1.5 px and radius within one class."""
    rng = np.random.default_rng(0)
    accuracy = {}
    for name, (_, sample) in PSF_SAMPLERS.items():
        hits = [
            _is_correct(network, photo, *sample(rng)) for photo in photos for _ in range(VAL_PSFS_PER_PHOTO)
        ]
        accuracy[name] = sum(hits) / len(hits)
    return accuracy


def _is_correct(network: nn.Module, photo: Tensor, kernel: Tensor, truth: PsfLabel) -> bool:
    encoded = to_encoded(convolve(to_linear(photo, SRGB), kernel).clamp(0, 1), SRGB)
    with torch.no_grad():
        offset_log_probs, radius_log_probs = network(cepstrum((encoded * 255).round()[None] / 255))
    blur_vector, true_vector = most_likely_vector(offset_log_probs[0]), torch.tensor(truth[:2])
    radius = RADIUS_STEP * float(radius_log_probs[0].argmax())
    error = min(float((blur_vector - true_vector).norm()), float((blur_vector + true_vector).norm()))
    return error < MAX_VECTOR_ERROR_PX and abs(radius - truth[2]) <= RADIUS_STEP


def most_likely_vector(log_probs: Tensor) -> Tensor:
    """The most probable blur vector (y, x) of [LAGS, LAGS] log probabilities, in pixels."""
    at = int(log_probs.argmax())
    return torch.tensor([at // LAGS - MAX_OFFSET, at % LAGS - MAX_OFFSET]).float()
