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

from freezeframe.splatting.camera.trajectory import CameraTrajectory, Views
from freezeframe.splatting.optim.losses import total_variation

RAY_GRID_ERROR_PX = (
    0.02  # pixels by which the sphere may be taken for flat between two rays that are followed
)
MARGIN_PX = 6.0  # pixels of canvas around what is seen
SUPERSAMPLING = 1.5  # canvas pixels per pixel of a frame: read between its own, a coarser one blurs
MAX_PIXELS = 40e6  # pixels of a canvas
MIN_LINEAR = 1e-4  # light, the least to start from: at zero a square does not move
TV_WEIGHT = 5e-4  # weight of the canvas's total variation


class PanoramaModel(nn.Module):
    """The light of a scene over longitude and latitude.

    Args:
        bounds: Longitudes and latitudes, (west, north, east, south) in radians; south is down, positive.
        density: Canvas pixels per radian.
        reference_rotation: World to camera turn of the view that looks at longitude 0. [3, 3].
    """

    def __init__(self, bounds: Sequence[float], density: float, reference_rotation: Tensor) -> None:
        super().__init__()
        west, north, east, south = bounds
        self.bounds, self.density = (west, north, east, south), density
        size = (math.ceil((south - north) * density), math.ceil((east - west) * density))
        # The root of light: steps of one size look the same in shadows and in highlights.
        self.sqrt_linear = nn.Parameter(torch.full((3, *size), 0.5))
        self.register_buffer("reference_rotation", reference_rotation.float())

    reference_rotation: Tensor

    @property
    def linear(self) -> Tensor:
        """[3, h, w] linear RGB over latitude and longitude."""
        return self.sqrt_linear.square()

    def forward(self, views: Views, size: Sequence[int]) -> Tensor:
        """[M, 3, H, W] linear light that M views see."""
        return sample_panorama(self.linear, self.sampling_grid(views, size))

    def sampling_grid(self, views: Views, size: Sequence[int]) -> Tensor:
        """[M, H, W, 2] where on the canvas each pixel looks, as `grid_sample` counts."""
        rays = ray_grid(views.Ks, size).to(views.viewmats)
        directions = torch.einsum(
            "mij,mjhw->mihw", self.reference_rotation @ views.viewmats[:, :3, :3].mT, rays
        )
        x, y, z = directions.unbind(1)
        longitude, latitude = torch.atan2(x, z), torch.atan2(y, torch.hypot(x, z))
        west, north, east, south = self.bounds
        across = 2 * (longitude - west) / (east - west) - 1
        down = 2 * (latitude - north) / (south - north) - 1
        return upsample_rays(torch.stack([across, down], dim=1), size)

    def param_groups(self) -> list[dict[str, Any]]:
        """What may change, as an optimiser takes it."""
        return [{"params": [self.sqrt_linear], "lr": 2e-2}]

    def prior(self) -> Tensor:
        return TV_WEIGHT * total_variation(self.sqrt_linear)

    def step_post_backward(self, optimizer: torch.optim.Optimizer, *, step: int, progress: float) -> None:
        """A canvas needs no care between steps."""

    def resize(self, factor: float) -> PanoramaModel:
        """The same picture with `factor` times as many pixels on a side."""
        if factor == 1:
            return self
        larger = PanoramaModel(self.bounds, self.density * factor, self.reference_rotation).to(
            self.sqrt_linear.device
        )
        with torch.no_grad():
            size = larger.sqrt_linear.shape[1:]
            larger.sqrt_linear.copy_(
                interpolate(self.sqrt_linear[None], size, mode="bicubic")[0].clamp_min(0)
            )
        return larger

    def backproject(self, frames: Tensor, views: Views, weights: Tensor) -> None:
        """Start from the mean of frames [T, 3, H, W], each laid where its view looks.

        Args:
            frames: Linear light.
            views: One for each.
            weights: [T, H, W] how much each pixel counts.
        """
        with torch.enable_grad():
            blank = torch.zeros_like(self.sqrt_linear).repeat(2, 1, 1)[:4].requires_grad_()
            total = blank.new_zeros(())
            for k in range(len(frames)):
                view = Views(viewmats=views.viewmats[k : k + 1], Ks=views.Ks[k : k + 1])
                warped = sample_panorama(blank, self.sampling_grid(view, frames.shape[2:]).detach())[0]
                weighted_frame = torch.cat([frames[k], torch.ones_like(frames[k, :1])]) * weights[k]
                total = total + (warped * weighted_frame).sum()
            # The transpose of looking is laying: autograd knows it.
            (sums,) = torch.autograd.grad(total, blank)
        observed = sums[3:] > 1e-3
        mean = sums[:3] / sums[3:].clamp_min(1e-3)
        mean_colour = mean[:, observed[0]].mean(1) if bool(observed.any()) else mean.new_full((3,), 0.25)
        with torch.no_grad():
            self.sqrt_linear.copy_(
                torch.where(observed, mean, mean_colour[:, None, None]).clamp_min(MIN_LINEAR).sqrt()
            )


def build_panorama(
    trajectory: CameraTrajectory, frames: int, size: Sequence[int], *, density: float
) -> PanoramaModel:
    """A canvas that holds all that `frames` exposures see, and `MARGIN_PX` more.

    Args:
        trajectory: Where the camera was.
        frames: How many there are.
        size: Height and width of the frames in pixels.
        density: Canvas pixels per radian.
    """
    ends = torch.tensor([-0.5, 0.0, 0.5])
    with torch.no_grad():
        frame_views = [trajectory.at(frame, ends) for frame in range(frames)]
    views = Views(
        viewmats=torch.cat([each.viewmats for each in frame_views]),
        Ks=torch.cat([each.Ks for each in frame_views]),
    )
    reference_rotation = views.viewmats[3 * (frames // 2) + 1, :3, :3]
    rays = ray_grid(views.Ks, size)
    x, y, z = torch.einsum("mij,mjhw->mihw", reference_rotation @ views.viewmats[:, :3, :3].mT, rays).unbind(
        1
    )
    longitude, latitude = torch.atan2(x, z), torch.atan2(y, torch.hypot(x, z))
    edge = MARGIN_PX / density
    bounds = (
        float(longitude.min()) - edge, float(latitude.min()) - edge,
        float(longitude.max()) + edge, float(latitude.max()) + edge,
    )  # fmt: skip
    pixels = (bounds[2] - bounds[0]) * (bounds[3] - bounds[1]) * density**2
    return PanoramaModel(bounds, density * min(1, (MAX_PIXELS / pixels) ** 0.5), reference_rotation)


def ray_grid(Ks: Tensor, size: Sequence[int]) -> Tensor:
    """[M, 3, h, w] rays through every few pixels of frames of `size`, from corner to corner."""
    step = max(
        1.0, (8 * RAY_GRID_ERROR_PX * float(Ks[0, 0, 0].detach())) ** 0.5
    )  # an arc's height over its chord
    rows, columns = (_grid_coordinates(side, step).to(Ks) for side in size)
    x = (columns - Ks[:, 0, 2, None]) / Ks[:, 0, 0, None]
    y = (rows - Ks[:, 1, 2, None]) / Ks[:, 1, 1, None]
    shape = (len(Ks), len(rows), len(columns))
    x, y = x[:, None, :].expand(shape), y[:, :, None].expand(shape)
    return torch.stack([x, y, torch.ones_like(x)], dim=1)


def upsample_rays(field: Tensor, size: Sequence[int]) -> Tensor:
    """[M, H, W, 2] of what is known at `ray_grid`, [M, 2, h, w]."""
    upsampled = interpolate(field, tuple(size), mode="bilinear", align_corners=True)
    return upsampled.permute(0, 2, 3, 1)


def sample_panorama(picture: Tensor, sampling_grid: Tensor) -> Tensor:
    """[M, C, H, W] of a picture [C, h, w] at `sampling_grid` [M, H, W, 2]."""
    batch = picture.expand(len(sampling_grid), *picture.shape)
    return grid_sample(batch, sampling_grid, mode="bilinear", padding_mode="border", align_corners=False)


def _grid_coordinates(side: int, step: float) -> Tensor:
    return torch.linspace(0, side - 1, math.ceil((side - 1) / step) + 1)
