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

OVER = 2  # rays on a side of a pixel

View = Callable[[Tensor], Tensor]
"""World to camera [4, 4] to linear light [3, H, W]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """A picture in the plane z = depth of the world."""

    picture: Tensor  # [3, h, w] linear light
    depth: float
    bounds: tuple[float, float, float, float]  # left, top, right, bottom at that depth


def sphere_view(panorama: Tensor, lens: Tensor, size: Sequence[int], *, reach: tuple[float, float]) -> View:
    """What a camera in the middle of a painted sphere sees.

    Args:
        panorama: [3, h, w] linear light over longitude and latitude, its middle straight ahead.
        lens: [3, 3] pixels.
        size: Height and width.
        reach: Half of the longitudes and half of the latitudes of the panorama, radians.
    """
    rays = _rays(lens, size)

    def view(pose: Tensor) -> Tensor:
        x, y, z = torch.einsum("ji,jhw->ihw", pose[:3, :3], rays)
        at = torch.stack([torch.atan2(x, z) / reach[0], torch.atan2(y, torch.hypot(x, z)) / reach[1]], dim=-1)
        return _sampled(panorama, at)

    return view


def planes_view(planes: Sequence[Plane], lens: Tensor, size: Sequence[int]) -> View:
    """What a camera sees of planes, the farthest first."""
    rays = _rays(lens, size)

    def view(pose: Tensor) -> Tensor:
        toward = torch.einsum("ji,jhw->ihw", pose[:3, :3], rays)
        eye = -pose[:3, :3].T @ pose[:3, 3]
        seen = torch.zeros(3, *size)
        for plane in planes:
            where = eye[:2, None, None] + (plane.depth - eye[2]) / toward[2] * toward[:2]
            left, top, right, bottom = plane.bounds
            at = torch.stack(
                [2 * (where[0] - left) / (right - left) - 1, 2 * (where[1] - top) / (bottom - top) - 1],
                dim=-1,
            )
            cover = avg_pool2d((at.abs().amax(-1) <= 1).float()[None], OVER)
            seen = torch.lerp(seen, _sampled(plane.picture, at), cover)
        return seen

    return view


def _rays(lens: Tensor, size: Sequence[int]) -> Tensor:
    rows, columns = ((torch.arange(side * OVER) + 0.5) / OVER - 0.5 for side in size)
    x, y = (columns - lens[0, 2]) / lens[0, 0], (rows - lens[1, 2]) / lens[1, 1]
    shape = (len(rows), len(columns))
    return torch.stack([x.expand(shape), y[:, None].expand(shape), torch.ones(shape)])


def _sampled(picture: Tensor, at: Tensor) -> Tensor:
    drawn = grid_sample(picture[None], at[None], mode="bicubic", padding_mode="border", align_corners=False)
    return avg_pool2d(drawn.clamp_min(0), OVER)[0]
