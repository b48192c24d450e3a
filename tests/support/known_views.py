"""Renderers of static scenes with exact ground truth: a panorama and textured planes.

Supersampled ray casting, an implementation independent of the scenes that are fitted to the views.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample

SUPERSAMPLING = 2  # rays per pixel and axis

ViewRenderer = Callable[[Tensor], Tensor]
"""View matrix [4, 4] (world to camera) to [3, H, W] linear RGB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """A textured rectangle in the plane z = depth of the world."""

    picture: Tensor  # [3, h, w] linear RGB
    depth: float
    bounds: tuple[float, float, float, float]  # left, top, right, bottom in world units


def sphere_view(
    panorama: Tensor, K: Tensor, size: Sequence[int], *, reach: tuple[float, float]
) -> ViewRenderer:
    """Renderer of a panorama for rotating cameras.

    Args:
        panorama: [3, h, w] linear RGB over longitude and latitude, centred on the z axis.
        K: [3, 3] pixels.
        size: Height and width.
        reach: Half of the range of longitude and of latitude, radians.
    """
    rays = _rays(K, size)

    def view(pose: Tensor) -> Tensor:
        x, y, z = torch.einsum("ji,jhw->ihw", pose[:3, :3], rays)
        at = torch.stack([torch.atan2(x, z) / reach[0], torch.atan2(y, torch.hypot(x, z)) / reach[1]], dim=-1)
        return _sample(panorama, at)

    return view


def planes_view(planes: Sequence[Plane], K: Tensor, size: Sequence[int]) -> ViewRenderer:
    """Renderer of planes, given from back to front."""
    rays = _rays(K, size)

    def view(pose: Tensor) -> Tensor:
        directions = torch.einsum("ji,jhw->ihw", pose[:3, :3], rays)
        camera_centre = -pose[:3, :3].T @ pose[:3, 3]
        image = torch.zeros(3, *size)
        for plane in planes:
            hits = (
                camera_centre[:2, None, None]
                + (plane.depth - camera_centre[2]) / directions[2] * directions[:2]
            )
            left, top, right, bottom = plane.bounds
            at = torch.stack(
                [2 * (hits[0] - left) / (right - left) - 1, 2 * (hits[1] - top) / (bottom - top) - 1],
                dim=-1,
            )
            cover = avg_pool2d((at.abs().amax(-1) <= 1).float()[None], SUPERSAMPLING)
            image = torch.lerp(image, _sample(plane.picture, at), cover)
        return image

    return view


def _rays(K: Tensor, size: Sequence[int]) -> Tensor:
    rows, columns = ((torch.arange(side * SUPERSAMPLING) + 0.5) / SUPERSAMPLING - 0.5 for side in size)
    x, y = (columns - K[0, 2]) / K[0, 0], (rows - K[1, 2]) / K[1, 1]
    shape = (len(rows), len(columns))
    return torch.stack([x.expand(shape), y[:, None].expand(shape), torch.ones(shape)])


def _sample(picture: Tensor, at: Tensor) -> Tensor:
    sampled = grid_sample(picture[None], at[None], mode="bicubic", padding_mode="border", align_corners=False)
    return avg_pool2d(sampled.clamp_min(0), SUPERSAMPLING)[0]
