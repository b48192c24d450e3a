"""A scene seen by a camera that only turns and zooms: one picture of everything around it.

From one place no depth can be seen, so none is invented: the scene is painted on a sphere around the camera,
unrolled by longitude and latitude. North is up in the middle view, which looks at longitude 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample, interpolate

from freezeframe.splatting.camera.trajectory import Track, Views
from freezeframe.splatting.optim.losses import roughness

BENT = 0.02  # pixels by which the sphere may be taken for flat between two rays that are followed
MARGIN = 6.0  # pixels of canvas around what is seen
FINER = 1.5  # canvas pixels per pixel of a frame: read between its own, a coarser one blurs
LARGEST = 40e6  # pixels of a canvas
DARKEST = 1e-4  # light, the least to start from: at zero a square does not move
SMOOTH = 5e-4  # weight of the canvas's total variation


class Canvas(nn.Module):
    """The light of a scene over longitude and latitude.

    Args:
        bounds: Longitudes and latitudes, (west, north, east, south) in radians; south is down, positive.
        density: Canvas pixels per radian.
        middle: World to camera turn of the view that looks at longitude 0. [3, 3].
    """

    def __init__(self, bounds: Sequence[float], density: float, middle: Tensor) -> None:
        super().__init__()
        west, north, east, south = bounds
        self.bounds, self.density = (west, north, east, south), density
        size = (math.ceil((south - north) * density), math.ceil((east - west) * density))
        # The root of light: steps of one size look the same in shadows and in highlights.
        self.roots = nn.Parameter(torch.full((3, *size), 0.5))
        self.register_buffer("middle", middle.float())

    middle: Tensor

    @property
    def light(self) -> Tensor:
        """[3, h, w] linear RGB over latitude and longitude."""
        return self.roots.square()

    def forward(self, views: Views, size: Sequence[int]) -> Tensor:
        """[M, 3, H, W] linear light that M views see."""
        return sampled(self.light, self.grid(views, size))

    def grid(self, views: Views, size: Sequence[int]) -> Tensor:
        """[M, H, W, 2] where on the canvas each pixel looks, as `grid_sample` counts."""
        rays = coarse_rays(views.lenses, size).to(views.poses)
        toward = torch.einsum("mij,mjhw->mihw", self.middle @ views.poses[:, :3, :3].mT, rays)
        x, y, z = toward.unbind(1)
        longitude, latitude = torch.atan2(x, z), torch.atan2(y, torch.hypot(x, z))
        west, north, east, south = self.bounds
        across = 2 * (longitude - west) / (east - west) - 1
        down = 2 * (latitude - north) / (south - north) - 1
        return fine(torch.stack([across, down], dim=1), size)

    def groups(self) -> list[dict[str, Any]]:
        """What may change, as an optimiser takes it."""
        return [{"params": [self.roots], "lr": 2e-2}]

    def prior(self) -> Tensor:
        return SMOOTH * roughness(self.roots)

    def tend(self, optimiser: torch.optim.Optimizer, *, step: int, progress: float) -> None:
        """A canvas needs no care between steps."""

    def resized(self, factor: float) -> Canvas:
        """The same picture with `factor` times as many pixels on a side."""
        if factor == 1:
            return self
        larger = Canvas(self.bounds, self.density * factor, self.middle).to(self.roots.device)
        with torch.no_grad():
            size = larger.roots.shape[1:]
            larger.roots.copy_(interpolate(self.roots[None], size, mode="bicubic")[0].clamp_min(0))
        return larger

    def paint(self, frames: Tensor, views: Views, weights: Tensor) -> None:
        """Start from the mean of frames [T, 3, H, W], each laid where its view looks.

        Args:
            frames: Linear light.
            views: One for each.
            weights: [T, H, W] how much each pixel counts.
        """
        with torch.enable_grad():
            blank = torch.zeros_like(self.roots).repeat(2, 1, 1)[:4].requires_grad_()
            total = blank.new_zeros(())
            for k in range(len(frames)):
                one = Views(poses=views.poses[k : k + 1], lenses=views.lenses[k : k + 1])
                laid = sampled(blank, self.grid(one, frames.shape[2:]).detach())[0]
                told = torch.cat([frames[k], torch.ones_like(frames[k, :1])]) * weights[k]
                total = total + (laid * told).sum()
            # The transpose of looking is laying: autograd knows it.
            (sums,) = torch.autograd.grad(total, blank)
        seen = sums[3:] > 1e-3
        mean = sums[:3] / sums[3:].clamp_min(1e-3)
        usual = mean[:, seen[0]].mean(1) if bool(seen.any()) else mean.new_full((3,), 0.25)
        with torch.no_grad():
            self.roots.copy_(torch.where(seen, mean, usual[:, None, None]).clamp_min(DARKEST).sqrt())


def canvas_for(track: Track, frames: int, size: Sequence[int], *, density: float) -> Canvas:
    """A canvas that holds all that `frames` exposures see, and `MARGIN` more.

    Args:
        track: Where the camera was.
        frames: How many there are.
        size: Height and width of the frames in pixels.
        density: Canvas pixels per radian.
    """
    ends = torch.tensor([-0.5, 0.0, 0.5])
    with torch.no_grad():
        seen = [track.at(frame, ends) for frame in range(frames)]
    views = Views(
        poses=torch.cat([each.poses for each in seen]), lenses=torch.cat([each.lenses for each in seen])
    )
    middle = views.poses[3 * (frames // 2) + 1, :3, :3]
    rays = coarse_rays(views.lenses, size)
    x, y, z = torch.einsum("mij,mjhw->mihw", middle @ views.poses[:, :3, :3].mT, rays).unbind(1)
    longitude, latitude = torch.atan2(x, z), torch.atan2(y, torch.hypot(x, z))
    edge = MARGIN / density
    bounds = (
        float(longitude.min()) - edge, float(latitude.min()) - edge,
        float(longitude.max()) + edge, float(latitude.max()) + edge,
    )  # fmt: skip
    pixels = (bounds[2] - bounds[0]) * (bounds[3] - bounds[1]) * density**2
    return Canvas(bounds, density * min(1, (LARGEST / pixels) ** 0.5), middle)


def coarse_rays(lenses: Tensor, size: Sequence[int]) -> Tensor:
    """[M, 3, h, w] rays through every few pixels of frames of `size`, from corner to corner."""
    step = max(1.0, (8 * BENT * float(lenses[0, 0, 0].detach())) ** 0.5)  # an arc's height over its chord
    rows, columns = (_places(side, step).to(lenses) for side in size)
    x = (columns - lenses[:, 0, 2, None]) / lenses[:, 0, 0, None]
    y = (rows - lenses[:, 1, 2, None]) / lenses[:, 1, 1, None]
    shape = (len(lenses), len(rows), len(columns))
    x, y = x[:, None, :].expand(shape), y[:, :, None].expand(shape)
    return torch.stack([x, y, torch.ones_like(x)], dim=1)


def fine(field: Tensor, size: Sequence[int]) -> Tensor:
    """[M, H, W, 2] of what is known at `coarse_rays`, [M, 2, h, w]."""
    whole = interpolate(field, tuple(size), mode="bilinear", align_corners=True)
    return whole.permute(0, 2, 3, 1)


def sampled(picture: Tensor, grid: Tensor) -> Tensor:
    """[M, C, H, W] of a picture [C, h, w] at `grid` [M, H, W, 2]."""
    many = picture.expand(len(grid), *picture.shape)
    return grid_sample(many, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _places(side: int, step: float) -> Tensor:
    return torch.linspace(0, side - 1, math.ceil((side - 1) / step) + 1)
