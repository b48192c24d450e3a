"""3D Gaussians (Kerbl et al. 2023) in unconstrained parameters.

Colours are encoded sRGB, as in published .ply files, so that a viewer shows them as fitted. Sub-frames are
averaged after `to_linear`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import Tensor

from freezeframe.splatting.rasterizer.rasterization import RenderMode, rasterization
from freezeframe.splatting.rasterizer.spherical_harmonics import CONSTANT

FIELDS = ("means", "quats", "scales", "opacities", "colours")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaussians:
    """N Gaussians; every field may hold any real number."""

    means: Tensor  # [N, 3]
    quats: Tensor  # [N, 4] quaternions (w, x, y, z) of any length
    scales: Tensor  # [N, 3] logarithms of standard deviations
    opacities: Tensor  # [N] logits
    colours: Tensor  # [N, M, 3] spherical harmonics of encoded sRGB, M = (degree + 1)^2

    def __post_init__(self) -> None:
        n = len(self.means)
        shapes = {each.name: tuple(getattr(self, each.name).shape) for each in fields(self)}
        coefficients = shapes["colours"][1] if len(shapes["colours"]) == 3 else 0
        expected_shapes = {"means": (n, 3), "quats": (n, 4), "scales": (n, 3), "opacities": (n,),
                           "colours": (n, coefficients, 3)}  # fmt: skip
        if shapes != expected_shapes or coefficients not in (1, 4, 9, 16):
            raise ValueError(f"expected N Gaussians with 1, 4, 9 or 16 harmonics, not shapes {shapes}")

    def __len__(self) -> int:
        return len(self.means)

    @property
    def degree(self) -> int:
        """Degree of the spherical harmonics."""
        return math.isqrt(self.colours.shape[1]) - 1

    def parts(self) -> dict[str, Tensor]:
        """The tensors by name, not copied."""
        return {name: getattr(self, name) for name in FIELDS}

    def with_tensors(self, parts: Mapping[str, Tensor]) -> Gaussians:
        """The same Gaussians with some tensors replaced."""
        return replace(self, **parts)


def render_gaussians(
    scene: Gaussians,
    viewmats: Tensor,
    K: Tensor,
    size: tuple[int, int],
    *,
    mode: RenderMode = "RGB",
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Render a scene in encoded sRGB.

    Args:
        scene: The Gaussians.
        viewmats: World to camera. [C, 4, 4].
        K: Intrinsics in pixels, pixel centres at integers. [3, 3] or [C, 3, 3].
        size: Height and width in pixels.
        mode: As `render_mode` of `rasterization`.

    Returns:
        Images [C, X, H, W], alphas [C, 1, H, W], and the `info` of `rasterization`.
    """
    height, width = size
    Ks = K.expand(len(viewmats), 3, 3).to(viewmats).clone()
    Ks[:, :2, 2] += 0.5  # gsplat has pixel centres at half-integers
    images, alphas, info = rasterization(
        scene.means, scene.quats, scene.scales.exp(), scene.opacities.sigmoid(), scene.colours, viewmats, Ks,
        width, height, sh_degree=scene.degree, render_mode=mode,
    )  # fmt: skip
    return images.permute(0, 3, 1, 2), alphas.permute(0, 3, 1, 2), info


def flat_colours(encoded: Tensor, *, degree: int = 0) -> Tensor:
    """Spherical harmonics [N, M, 3] of the encoded colours [N, 3], the same in all directions."""
    coefficients = encoded.new_zeros(len(encoded), (degree + 1) ** 2, 3)
    coefficients[:, 0] = (encoded - 0.5) / CONSTANT
    return coefficients
