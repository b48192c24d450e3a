"""A static scene as 3D Gaussians (Kerbl et al. 2023), in the parameters that an optimiser may move freely.

Colours are the screen's own (sRGB codes), as in every published .ply: a viewer shows what was fitted. Light
is averaged only after `to_light` has decoded each moment's picture.
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
    """N Gaussians. Any real number is allowed in each field."""

    means: Tensor  # [N, 3]
    quats: Tensor  # [N, 4] rotations (w, x, y, z) of any length
    scales: Tensor  # [N, 3] logarithms of standard deviations
    opacities: Tensor  # [N] logits
    colours: Tensor  # [N, M, 3] spherical harmonics of sRGB codes, M = (degree + 1)^2

    def __post_init__(self) -> None:
        n = len(self.means)
        shapes = {each.name: tuple(getattr(self, each.name).shape) for each in fields(self)}
        bands = shapes["colours"][1] if len(shapes["colours"]) == 3 else 0
        expected_shapes = {"means": (n, 3), "quats": (n, 4), "scales": (n, 3), "opacities": (n,),
                  "colours": (n, bands, 3)}  # fmt: skip
        if shapes != expected_shapes or bands not in (1, 4, 9, 16):
            raise ValueError(f"Gaussians of shapes {shapes} are not N of each with 1, 4, 9 or 16 harmonics")

    def __len__(self) -> int:
        return len(self.means)

    @property
    def degree(self) -> int:
        """Of the harmonics."""
        return math.isqrt(self.colours.shape[1]) - 1

    def parts(self) -> dict[str, Tensor]:
        """Name to tensor: the very tensors, for optimisers."""
        return {name: getattr(self, name) for name in FIELDS}

    def with_tensors(self, parts: Mapping[str, Tensor]) -> Gaussians:
        """The same Gaussians with some parts replaced."""
        return replace(self, **parts)

    def detached(self) -> Gaussians:
        """Copies that no optimiser moves."""
        return Gaussians(**{name: value.detach().clone() for name, value in self.parts().items()})


def render_gaussians(
    scene: Gaussians,
    viewmats: Tensor,
    K: Tensor,
    size: tuple[int, int],
    *,
    mode: RenderMode = "RGB",
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Pictures of a scene in sRGB codes.

    Args:
        scene: The Gaussians.
        viewmats: World to camera. [C, 4, 4].
        K: Intrinsics in pixels, pixel centres at integers. [3, 3] or [C, 3, 3].
        size: Height and width in pixels.
        mode: As `rasterization`'s.

    Returns:
        [C, X, H, W], coverage [C, 1, H, W], and what `rasterization` tells of the Gaussians.
    """
    height, width = size
    Ks = K.expand(len(viewmats), 3, 3).to(viewmats).clone()
    Ks[:, :2, 2] += 0.5  # gsplat counts from the corner of the first pixel, we from its centre
    pictures, alphas, info = rasterization(
        scene.means, scene.quats, scene.scales.exp(), scene.opacities.sigmoid(), scene.colours, viewmats, Ks,
        width, height, sh_degree=scene.degree, render_mode=mode,
    )  # fmt: skip
    return pictures.permute(0, 3, 1, 2), alphas.permute(0, 3, 1, 2), info


def flat_colours(encoded: Tensor, *, degree: int = 0) -> Tensor:
    """Harmonics [N, M, 3] of Gaussians that show the codes [N, 3] from every side."""
    bands = encoded.new_zeros(len(encoded), (degree + 1) ** 2, 3)
    bands[:, 0] = (encoded - 0.5) / CONSTANT
    return bands
