"""Gaussians after projection and before compositing, and their covariances."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

ALPHA_MIN = 1 / 255  # alpha below which a Gaussian does not contribute
ALPHA_MAX = 0.999  # alpha is clamped to this
TRANSMITTANCE_MIN = 1e-4  # transmittance at which compositing stops
FRUSTUM_MARGIN = 0.15  # of the frame: how far outside a Gaussian may lie before its perspective is clamped


@dataclass(frozen=True, slots=True, kw_only=True)
class RasterSettings:
    """Settings of a call, common to all its Gaussians and cameras."""

    size: tuple[int, int]  # width, height
    near: float
    far: float
    blur: float  # pixels^2 added to every covariance
    antialiased: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectedGaussians:
    """N Gaussians on C image planes. Conics (a, b, c) = (xx, xy, yy) are inverse 2D covariances."""

    means: Tensor  # [C, N, 2] pixels, centres at +0.5
    conics: Tensor  # [C, N, 3] per pixel^2
    opacities: Tensor  # [C, N]
    depths: Tensor  # [C, N]
    radii: Tensor  # [C, N] int32 pixels; 0 for invisible Gaussians
    records: Tensor | None = None  # [C, N, RECORD_FLOATS] of the numba kernels


def covariances(quats: Tensor, scales: Tensor) -> Tensor:
    """[N, 3, 3] R diag(s^2) R' of quaternions (w, x, y, z) of any length and scales."""
    root = covariance_roots(quats, scales)
    return root @ root.mT


def covariance_roots(quats: Tensor, scales: Tensor) -> Tensor:
    """[N, 3, 3] R diag(s), which maps standard normal vectors to samples of the Gaussians."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    rotation = torch.stack(
        [
            1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
            2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
            2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
        ],
        dim=-1,
    ).reshape(-1, 3, 3)  # fmt: skip
    return rotation * scales[:, None]
