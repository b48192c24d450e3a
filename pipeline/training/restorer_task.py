"""What a single-image restorer learns: degraded patches of photos, and the photos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from freezeframe.data.srgb import SrgbImage
from freezeframe.data.synthesis.clips.clips import load_pictures
from freezeframe.data.synthesis.degradations.compose import EVAL_STRENGTH, KINDS, Kind, degrade
from freezeframe.data.synthesis.scene2d.patterns import Generator, pattern

from .loop import Validator
from .objective import is_matrix_weight

# How often each kind is drawn: more where more is still to be gained.
KIND_WEIGHTS: dict[Kind, float] = {
    "clean": 0.22, "noise": 0.04, "shot": 0.02, "jpeg": 0.30, "motion": 0.07, "shake": 0.06, "defocus": 0.05,
    "rain": 0.03, "haze": 0.04, "dark": 0.03, "mixed": 0.11, "uneven": 0.03,
}  # fmt: skip
PATTERN_PROBABILITY = 0.08  # share of patches that are drawn and not photographed
MIN_SCALE, MAX_SCALE = 1.0, 2.0  # photo pixels per patch pixel: smaller is sharper, and more of it fits
MIN_GRADIENT = 1.5  # codes; mean step between pixels below which another place is cut, up to a few times
MAX_CROP_ATTEMPTS = 4
FLAT_PROBABILITY = 0.2  # share of sound patches that show next to nothing
FLAT_COLOR_STD = 0.05  # how far colours of such a patch lie from each other, standard deviation, codes
RMSE_WEIGHT = 20.0  # weight of the root: 1 / 20, or 26 dB, is where both have the same slope
MSE_FLOOR = 1e-4  # mean square error, 40 dB, below which little is left to gain
HARM_WEIGHT = 300.0  # weight of what makes a picture worse than it came
HARM_MSE_FLOOR = 1e-8  # mean square error, 80 dB, below which there is no harm
MAX_CLEAN_STRENGTH = 0.05  # strength up to which a noise or JPEG is that of any sound photograph
VAL_CROP_PX = 256  # pixels of the middle of each photo that trials look at
PSNR_CAP_DB = 60.0  # dB; what a picture without any error counts as


@dataclass(frozen=True, slots=True)
class RestorationTask:
    """The course of a restorer. `build_network` builds the network; everything else follows from the seed."""

    build_network: Callable[[], nn.Module]
    pictures: Sequence[SrgbImage]
    batch_size: int  # patches in a batch
    patch_size: int  # pixels
    seed: int
    val_photos: Path | None = None  # folder of photos that are never trained on
    uses_muon = staticmethod(is_matrix_weight)

    def network(self) -> nn.Module:
        return self.build_network()

    def batch(self, step: int, *, rank: int) -> Tensor:
        """[B, 6, P, P] codes: the patch made worse, and the patch."""
        rng = np.random.default_rng((self.seed, rank, step))
        return torch.stack([self._make_pair(rng) for _ in range(self.batch_size)])

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        degraded, truth = batch[:, :3], batch[:, 3:]
        with torch.autocast(batch.device.type, dtype=torch.bfloat16):
            output = model(degraded.to(memory_format=torch.channels_last))
        return log_mse_loss(output, truth) + HARM_WEIGHT * harm_penalty(degraded, output, truth)

    def validators(self) -> list[Validator]:
        if self.val_photos is None:
            return []
        photos = [center_crop(bytes_to_float(codes), VAL_CROP_PX) for codes in load_pictures(self.val_photos)]
        return [lambda network: psnr_gains(network, photos)]

    def _make_pair(self, rng: Generator) -> Tensor:
        kind: Kind = rng.choice(
            list(KIND_WEIGHTS), p=np.array(list(KIND_WEIGHTS.values())) / sum(KIND_WEIGHTS.values())
        )
        flat = kind == "clean" and rng.random() < FLAT_PROBABILITY
        sharp = bytes_to_float(
            flat_patch(rng, side=self.patch_size)
            if flat
            else random_crop(rng, self.pictures, side=self.patch_size)
        )
        seed = int(rng.integers(2**31))
        if kind == "clean" and rng.random() < 0.5:
            light_kind: Kind = "noise" if rng.random() < 0.5 else "jpeg"
            return torch.cat(
                [degrade(sharp, light_kind, seed=seed, strength=MAX_CLEAN_STRENGTH * rng.random()), sharp]
            )
        return torch.cat([degrade(sharp, kind, seed=seed), sharp])


def log_mse_loss(output: Tensor, truth: Tensor) -> Tensor:
    """Mean over the batch of log mean square error, decibels but for a factor, and of its root.

    To the logarithm a small improvement of a slight fault is worth a large one of a grave fault. By itself it
    leaves haze and darkness, whose slope is the least, to the last: the root has the same slope for all. Near
    perfection (`MSE_FLOOR`) both level off into the square.

    Args:
        output: [B, 3, H, W] codes, not clamped.
        truth: [B, 3, H, W] codes in [0, 1].
    """
    error = (output - truth).float().square().mean((1, 2, 3))
    total: Tensor = ((error + MSE_FLOOR).log() + RMSE_WEIGHT * (error + MSE_FLOOR).sqrt()).mean()
    return total


def harm_penalty(degraded: Tensor, output: Tensor, truth: Tensor) -> Tensor:
    """How much farther from the truth answers are than what was seen, root mean square codes, batch mean.

    Most of all it keeps sound pictures as they are, where their likeness to themselves says little.
    """
    before, after = (
        ((codes - truth).float().square().mean((1, 2, 3)) + HARM_MSE_FLOOR).sqrt()
        for codes in (degraded, output)
    )
    return (after - before).clamp_min(0).mean()


def flat_patch(rng: Generator, *, side: int) -> SrgbImage:
    """A square of one colour, or of four that pass into each other."""
    variation = FLAT_COLOR_STD * rng.integers(2) * rng.normal(0, 1, (2, 2, 3))
    corners = np.clip(rng.uniform(0, 1, 3) + variation, 0, 1).astype(np.float32)
    return np.asarray(cv2.resize(corners, (side, side)) * 255 + 0.5, np.uint8)


def random_crop(rng: Generator, pictures: Sequence[SrgbImage], *, side: int) -> SrgbImage:
    """A square of one of the pictures, made smaller, mirrored and turned by chance; with detail if it can."""
    if not pictures or rng.random() < PATTERN_PROBABILITY:
        return pattern(rng, side=side)
    for _ in range(MAX_CROP_ATTEMPTS):
        patch = _crop_square(rng, pictures[int(rng.integers(len(pictures)))], side=side)
        if np.abs(np.diff(patch.astype(np.int16), axis=1)).mean() >= MIN_GRADIENT:
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
    """[H, W, 3] bytes as [3, H, W] codes in [0, 1]."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255


def center_crop(codes: Tensor, side: int) -> Tensor:
    """The middle `side` x `side` pixels of [3, H, W], or all where it is smaller."""
    height, width = codes.shape[1:]
    top, left = max(0, height - side) // 2, max(0, width - side) // 2
    return codes[:, top : top + side, left : left + side].contiguous()


def psnr_gains(network: nn.Module, photos: Sequence[Tensor]) -> dict[str, float]:
    """Decibels gained over the degraded photo by kind, mean over `photos`, each at half strength.

    A clean photo that is changed counts against `PSNR_CAP_DB`.
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


def apply_network(network: nn.Module, codes: Tensor) -> Tensor:
    """[3, H, W] codes in [0, 1] after the network, as whole 255ths. Takes no gradient."""
    device = next(network.parameters()).device
    with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16):
        output: Tensor = network(codes[None].to(device, memory_format=torch.channels_last))[0]
    return (output.float().cpu().clamp(0, 1) * 255).round() / 255


def capped_psnr(codes: Tensor, truth: Tensor) -> float:
    """Peak signal-to-noise ratio, at most `PSNR_CAP_DB`. dB."""
    error = float((codes - truth).double().square().mean())
    return float(min(PSNR_CAP_DB, -10 * np.log10(max(error, 1e-12))))
