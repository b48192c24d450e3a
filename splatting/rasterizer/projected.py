"""What cameras see of Gaussians before anything is composited."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

ALPHA_MIN = 1 / 255  # alpha below which a Gaussian is not seen
ALPHA_MAX = 0.999  # alpha that no Gaussian exceeds
TRANSMITTANCE_MIN = 1e-4  # transmittance at which nothing behind is seen


@dataclass(frozen=True, slots=True, kw_only=True)
class RasterSettings:
    """What is the same for all Gaussians and cameras of a call."""

    size: tuple[int, int]  # width, height
    near: float
    far: float
    blur: float  # pixels^2 added to every covariance
    antialiased: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectedGaussians:
    """N Gaussians on C screens. Conics are inverse covariances (a, b, c) = (xx, xy, yy)."""

    means: Tensor  # [C, N, 2] pixels, centres at +0.5
    conics: Tensor  # [C, N, 3] per pixel^2
    opacities: Tensor  # [C, N]
    depths: Tensor  # [C, N]
    radii: Tensor  # [C, N] int32 pixels; 0 for what is not seen
    records: Tensor | None = None  # the same as the compiled kernels keep it


def covariances(quats: Tensor, scales: Tensor) -> Tensor:
    """[N, 3, 3] R diag(s^2) R' of quaternions (w, x, y, z) of any length and scales."""
    root = covariance_roots(quats, scales)
    return root @ root.mT


def covariance_roots(quats: Tensor, scales: Tensor) -> Tensor:
    """[N, 3, 3] R diag(s): takes standard normal vectors to draws from the Gaussians."""
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
