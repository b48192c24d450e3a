"""Validation of the blur field on held-out photographs: its vectors, and the gain of a deconvolution.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import torch
from torch import Tensor, nn

from freezeframe.data.blur.blocks import block_mean
from freezeframe.data.blur.operator import blur
from freezeframe.data.color import SRGB, to_encoded, to_linear
from freezeframe.data.synthesis.clips.clips import load_pictures
from freezeframe.models.deblur.blur_field import BlurField, estimate_blur_field, textured
from freezeframe.motion.camera.blur_fit import CameraBlur
from freezeframe.pipeline.solvers.field_deconvolution import deconvolve_along_field

from .loop import Validator
from .restorer_task import capped_psnr, load_center

SIDE = 256  # pixels: the middle of each photograph
MAX_VECTOR_ERROR_PX = 1.0  # of a correct vector


@dataclass(frozen=True, slots=True, kw_only=True)
class BlurCase:
    """A photograph and its known blur."""

    encoded: Tensor  # [3, H, W] recorded, sRGB-encoded in [0, 1]
    truth: Tensor  # [3, H, W] sharp, encoded
    vectors: Tensor  # [2, H, W] pixels

    @classmethod
    def of(cls, sharp: Tensor, vectors: Tensor) -> BlurCase:
        """A sharp photograph [3, H, W], encoded, blurred along `vectors` and rounded to 8 bits."""
        blurred = to_encoded(blur(to_linear(sharp, SRGB), vectors).clamp(0, 1), SRGB)
        return cls(encoded=(blurred * 255).round() / 255, truth=sharp, vectors=vectors)


# Parameters of `CameraBlur`, one set for each photograph in turn.
CAMERAS: dict[str, Sequence[tuple[float, ...]]] = {
    "even": ((6, 3, 0, 0, 0, 0), (-4, 8, 0, 0, 0, 0), (13, 2, 0, 0, 0, 0), (0.5, -5, 0, 0, 0, 0)),
    "rotation": ((5, 2, 5, 0, 0, 0), (0, 6, 6, 2.5, 0, 0), (-7, 6, 6, 0, 0, 0), (9, -3, 0, 6, 0, 0)),
    "sharp": ((0, 0, 0, 0, 0, 0),),
}


def blur_field_validator(photos: Path) -> Validator:
    """Metrics of a network on the middle of each photograph of a folder."""
    sharp = [load_center(picture, SIDE) for picture in load_pictures(photos)]
    cases = {
        name: [
            BlurCase.of(photo, camera_field(parameters, photo.shape[1:]))
            for photo, parameters in zip(sharp, cycle(cameras), strict=False)
        ]
        for name, cameras in CAMERAS.items()
    }
    return lambda network: blur_field_metrics(network, cases)


def camera_field(parameters: Sequence[float], size: Sequence[int]) -> Tensor:
    """[2, H, W] blur vectors of a camera with these parameters of `CameraBlur`."""
    camera = CameraBlur(parameters=torch.tensor(parameters).float(), score=0.0, still_score=0.0)
    return camera.vectors(size)


def blur_field_metrics(network: nn.Module, cases: dict[str, list[BlurCase]]) -> dict[str, float]:
    """By kind: share of textured blocks with a correct vector, and gain of the deconvolution in dB."""
    metrics = {}
    for name, some in cases.items():
        fields = [estimate_blur_field(network, case.encoded) for case in some]
        shares = [correct_share(field, case) for field, case in zip(fields, some, strict=True)]
        metrics[f"{name}_vectors"] = sum(shares) / len(shares)
        gains = [deconvolution_gain(field, case) for field, case in zip(fields, some, strict=True)]
        metrics[f"{name}_gain"] = sum(gains) / len(gains)
    return metrics


def correct_share(field: BlurField, case: BlurCase) -> float:
    """Share of the blocks with texture whose vector, of either sign, is within 1 px of the truth."""
    truth = block_mean(case.vectors)
    error = torch.minimum((field.vectors - truth).norm(dim=0), (field.vectors + truth).norm(dim=0))
    correct = (error < MAX_VECTOR_ERROR_PX)[textured(case.encoded)]
    return float(correct.float().mean())


def deconvolution_gain(field: BlurField, case: BlurCase) -> float:
    """PSNR gain in dB of the deconvolution along `field`."""
    restored = (deconvolve_along_field(case.encoded, field) * 255).round() / 255
    return capped_psnr(restored, case.truth) - capped_psnr(case.encoded, case.truth)
