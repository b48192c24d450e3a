"""Training task of a single-image restorer: degraded patches of photos, and the photos."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from freezeframe.data.metrics.image import psnr_from_mse
from freezeframe.data.srgb import SrgbImage
from freezeframe.data.synthesis.clips.clips import load_pictures
from freezeframe.data.synthesis.degradations.compose import EVAL_STRENGTH, KINDS, Kind, degrade
from freezeframe.data.synthesis.scene2d.patterns import Generator, pattern
from freezeframe.pipeline.support.crops import center_crop

from .fusion_data import mean_gradient
from .loop import Validator
from .objective import is_matrix_weight

# More often where more is still to be gained.
KIND_PROBABILITIES: Mapping[Kind, float] = MappingProxyType({
    "clean": 0.22, "noise": 0.04, "shot": 0.02, "jpeg": 0.30, "motion": 0.07, "shake": 0.06, "defocus": 0.05,
    "rain": 0.03, "haze": 0.04, "dark": 0.03, "mixed": 0.11, "uneven": 0.03,
})  # fmt: skip
PATTERN_PROBABILITY = 0.08  # fraction of patches that are synthetic patterns
MIN_SCALE, MAX_SCALE = 1.0, 2.0  # photo pixels per patch pixel: downscaling sharpens, and shows more
MIN_GRADIENT = 1.5  # 8-bit code values per pixel; patches with less detail are cropped again
MAX_CROP_ATTEMPTS = 4
FLAT_COLOR_STD = 0.05  # standard deviation of the corner colours of a flat patch, encoded
PSNR_CAP_DB = 60.0  # PSNR of a picture without any error, in dB


@dataclass(frozen=True, slots=True, kw_only=True)
class DegradationSampling:
    """Distribution of the training pairs, and size of the validation crops."""

    kinds: Mapping[Kind, float] = field(default_factory=lambda: KIND_PROBABILITIES)  # need not sum to 1
    flat_probability: float = 0.2  # fraction of clean patches that are flat
    max_clean_strength: float = 0.05  # noise or JPEG up to this strength is that of any clean photo
    val_crop_px: int = 256  # side in pixels of the validated middle of each photo


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorationLoss:
    """Weights of the loss."""

    rmse_weight: float = 20.0  # at an RMSE of 1 / 20 (26 dB) both terms of `log_mse_loss` have the same slope
    mse_floor: float = 1e-4  # mean squared error (40 dB) below which the loss is quadratic
    harm_weight: float = 300.0  # weight of `harm_penalty`
    harm_mse_floor: float = 1e-8  # mean squared error (80 dB) below which there is no harm


DEFAULT_LOSS = RestorationLoss()


@dataclass(frozen=True, slots=True)
class RestorationTask:
    """Remove the degradations of a photo. All but the network is determined by the seed."""

    build_network: Callable[[], nn.Module]
    pictures: Sequence[SrgbImage]
    batch_size: int  # patches in a batch
    patch_size: int  # pixels
    seed: int
    val_photos: Path | None = None  # folder of held-out photos
    sampling: DegradationSampling = field(default_factory=DegradationSampling)
    uses_muon = staticmethod(is_matrix_weight)

    def network(self) -> nn.Module:
        return self.build_network()

    def batch(self, step: int, *, rank: int) -> Tensor:
        """[B, 6, P, P] encoded: the degraded patch, and the patch."""
        rng = np.random.default_rng((self.seed, rank, step))
        return torch.stack([self._make_pair(rng) for _ in range(self.batch_size)])

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        degraded, truth = batch[:, :3], batch[:, 3:]
        with torch.autocast(batch.device.type, dtype=torch.bfloat16):
            output = model(degraded.to(memory_format=torch.channels_last))
        return log_mse_loss(output, truth) + DEFAULT_LOSS.harm_weight * harm_penalty(degraded, output, truth)

    def validators(self) -> list[Validator]:
        if self.val_photos is None:
            return []
        side = self.sampling.val_crop_px
        photos = [load_center(picture, side) for picture in load_pictures(self.val_photos)]
        return [lambda network: psnr_gains(network, photos)]

    def _make_pair(self, rng: Generator) -> Tensor:
        kinds, probabilities = list(self.sampling.kinds), list(self.sampling.kinds.values())
        kind: Kind = rng.choice(kinds, p=np.array(probabilities) / sum(probabilities))
        flat = kind == "clean" and rng.random() < self.sampling.flat_probability
        sharp = bytes_to_float(
            flat_patch(rng, side=self.patch_size)
            if flat
            else random_crop(rng, self.pictures, side=self.patch_size)
        )
        seed = int(rng.integers(2**31))
        if kind == "clean" and rng.random() < 0.5:
            light_kind: Kind = "noise" if rng.random() < 0.5 else "jpeg"
            strength = self.sampling.max_clean_strength * rng.random()
            return torch.cat([degrade(sharp, light_kind, seed=seed, strength=strength), sharp])
        return torch.cat([degrade(sharp, kind, seed=seed), sharp])


def log_mse_loss(output: Tensor, truth: Tensor, config: RestorationLoss = DEFAULT_LOSS) -> Tensor:
    """Log MSE (dB up to a factor) plus weighted RMSE, batch mean.

    The logarithm weights relative improvements: slight and severe degradations count alike. Alone it has the
    smallest gradient where errors are large (haze, low light); the RMSE has the same slope for all. Below
    `mse_floor` both become quadratic.

    Args:
        output: [B, 3, H, W] encoded, not clamped.
        truth: [B, 3, H, W] encoded in [0, 1].
        config: Weights of the loss.
    """
    error = (output - truth).float().square().mean((1, 2, 3))
    floor, weight = config.mse_floor, config.rmse_weight
    total: Tensor = ((error + floor).log() + weight * (error + floor).sqrt()).mean()
    return total


def harm_penalty(
    degraded: Tensor, output: Tensor, truth: Tensor, config: RestorationLoss = DEFAULT_LOSS
) -> Tensor:
    """Increase of the RMSE over that of the input, 0 where the output is closer, batch mean.

    Its main effect is on clean pictures, whose log MSE says little. Arguments are [B, 3, H, W] encoded.
    """
    before, after = (
        ((encoded - truth).float().square().mean((1, 2, 3)) + config.harm_mse_floor).sqrt()
        for encoded in (degraded, output)
    )
    return (after - before).clamp_min(0).mean()


def flat_patch(rng: Generator, *, side: int) -> SrgbImage:
    """A patch of one colour, or of a gradient between four."""
    variation = FLAT_COLOR_STD * rng.integers(2) * rng.normal(0, 1, (2, 2, 3))
    corners = np.clip(rng.uniform(0, 1, 3) + variation, 0, 1).astype(np.float32)
    return np.asarray(cv2.resize(corners, (side, side)) * 255 + 0.5, np.uint8)


def random_crop(rng: Generator, pictures: Sequence[SrgbImage], *, side: int) -> SrgbImage:
    """A random square of a picture, downscaled, flipped and rotated at random; flat ones are drawn again."""
    if not pictures or rng.random() < PATTERN_PROBABILITY:
        return pattern(rng, side=side)
    for _ in range(MAX_CROP_ATTEMPTS):
        patch = _crop_square(rng, pictures[int(rng.integers(len(pictures)))], side=side)
        if mean_gradient(patch) >= MIN_GRADIENT:
            break
    return patch


def _crop_square(rng: Generator, picture: SrgbImage, *, side: int) -> SrgbImage:
    shorter = min(picture.shape[:2])
    crop_side = min(shorter, round(side * rng.uniform(MIN_SCALE, MAX_SCALE)))
    top, left = (int(rng.integers(length - crop_side + 1)) for length in picture.shape[:2])
    piece = picture[top : top + crop_side, left : left + crop_side]
    if crop_side != side:
        piece = np.asarray(cv2.resize(piece, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    rotated = np.rot90(piece, int(rng.integers(4)))
    return np.ascontiguousarray(rotated[:, ::-1] if rng.random() < 0.5 else rotated)


def bytes_to_float(picture: SrgbImage) -> Tensor:
    """[H, W, 3] uint8 as [3, H, W] encoded in [0, 1]."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255


def load_center(picture: SrgbImage, side: int) -> Tensor:
    """The middle `side` x `side` pixels of [H, W, 3] uint8 as [3, side, side] encoded in [0, 1]."""
    return center_crop(bytes_to_float(picture), side).contiguous()


def psnr_gains(network: nn.Module, photos: Sequence[Tensor]) -> dict[str, float]:
    """PSNR gain in dB by kind of degradation, mean over `photos`, each degraded at half strength.

    A clean photo has `PSNR_CAP_DB`: any change of it is a loss.
    """
    mean_gains: dict[str, float] = {}
    for kind in KINDS:
        pairs = [
            (degrade(photo, kind, seed=i, strength=EVAL_STRENGTH), photo) for i, photo in enumerate(photos)
        ]
        kind_gains = [
            capped_psnr(apply_network(network, degraded), photo) - capped_psnr(degraded, photo)
            for degraded, photo in pairs
        ]
        mean_gains[kind] = sum(kind_gains) / len(kind_gains)
    return mean_gains


def apply_network(network: nn.Module, encoded: Tensor) -> Tensor:
    """Restore [3, H, W] encoded in [0, 1] and round to 8 bits. Takes no gradient."""
    device = next(network.parameters()).device
    with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16):
        output: Tensor = network(encoded[None].to(device, memory_format=torch.channels_last))[0]
    return (output.float().cpu().clamp(0, 1) * 255).round() / 255


def capped_psnr(encoded: Tensor, truth: Tensor) -> float:
    """PSNR in dB of values in [0, 1], at most `PSNR_CAP_DB`."""
    mse = float((encoded - truth).double().square().mean())
    return min(PSNR_CAP_DB, psnr_from_mse(mse, peak=1.0))
