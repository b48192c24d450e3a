"""Static scenes with known truth, seen by a known camera: from one place, and past textured planes.

Drawn with two rays a side in every pixel, so that nobody who fits such a scene can use the same arithmetic.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample

SUPERSAMPLING = 2  # rays on a side of a pixel

ViewRenderer = Callable[[Tensor], Tensor]
"""World to camera [4, 4] to linear light [3, H, W]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """A picture in the plane z = depth of the world."""

    picture: Tensor  # [3, h, w] linear light
    depth: float
    bounds: tuple[float, float, float, float]  # left, top, right, bottom at that depth


def sphere_view(
    panorama: Tensor, K: Tensor, size: Sequence[int], *, reach: tuple[float, float]
) -> ViewRenderer:
    """What a camera in the middle of a painted sphere sees.

    Args:
        panorama: [3, h, w] linear light over longitude and latitude, its middle straight ahead.
        K: [3, 3] pixels.
        size: Height and width.
        reach: Half of the longitudes and half of the latitudes of the panorama, radians.
    """
    rays = _rays(K, size)

    def view(pose: Tensor) -> Tensor:
        x, y, z = torch.einsum("ji,jhw->ihw", pose[:3, :3], rays)
        at = torch.stack([torch.atan2(x, z) / reach[0], torch.atan2(y, torch.hypot(x, z)) / reach[1]], dim=-1)
        return _sampled(panorama, at)

    return view


def planes_view(planes: Sequence[Plane], K: Tensor, size: Sequence[int]) -> ViewRenderer:
    """What a camera sees of planes, the farthest first."""
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
            image = torch.lerp(image, _sampled(plane.picture, at), cover)
        return image

    return view


def _rays(K: Tensor, size: Sequence[int]) -> Tensor:
    rows, columns = ((torch.arange(side * SUPERSAMPLING) + 0.5) / SUPERSAMPLING - 0.5 for side in size)
    x, y = (columns - K[0, 2]) / K[0, 0], (rows - K[1, 2]) / K[1, 1]
    shape = (len(rows), len(columns))
    return torch.stack([x.expand(shape), y[:, None].expand(shape), torch.ones(shape)])


def _sampled(picture: Tensor, at: Tensor) -> Tensor:
    sampled = grid_sample(picture[None], at[None], mode="bicubic", padding_mode="border", align_corners=False)
    return avg_pool2d(sampled.clamp_min(0), SUPERSAMPLING)[0]
