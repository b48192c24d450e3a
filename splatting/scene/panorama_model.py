"""The scene of a camera that rotates and zooms: an equirectangular panorama.

A rotating camera gives no parallax, so the scene has no depth: it is an image on a sphere around the camera,
over longitude and latitude. The axis of the middle view is at longitude 0 and latitude 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample, interpolate

from freezeframe.splatting.camera.trajectory import CameraTrajectory, Views
from freezeframe.splatting.optim.losses import total_variation

SUPERSAMPLING = 1.5  # panorama pixels per frame pixel: interpolation of a coarser panorama blurs
RAY_GRID_ERROR_PX = 0.02  # error of interpolating longitude and latitude between rays


@dataclass(frozen=True, slots=True, kw_only=True)
class PanoramaConfig:
    """Size and regularisation of a panorama."""

    margin_px: float = 6.0  # frame pixels around the union of the frames
    max_pixels: float = 40e6
    min_linear: float = 1e-4  # initial linear value; the gradient of a square vanishes at 0
    tv_weight: float = 5e-4  # weight of the total variation


class PanoramaModel(nn.Module):
    """Linear RGB of a scene over longitude and latitude, as trainable parameters.

    Args:
        bounds: Longitudes and latitudes (west, north, east, south) in radians; latitude increases downwards.
        density: Panorama pixels per radian.
        reference_rotation: Rotation, world to camera, of the view at longitude 0. [3, 3].
        config: Regularisation.
    """

    def __init__(
        self,
        bounds: Sequence[float],
        density: float,
        reference_rotation: Tensor,
        *,
        config: PanoramaConfig = PanoramaConfig(),
    ) -> None:
        super().__init__()
        self.config = config
        west, north, east, south = bounds
        self.bounds, self.density = (west, north, east, south), density
        size = (math.ceil((south - north) * density), math.ceil((east - west) * density))
        # Square roots: steps of one size are about equally visible in shadows and highlights.
        self.sqrt_linear = nn.Parameter(torch.full((3, *size), 0.5))
        self.register_buffer("reference_rotation", reference_rotation.float())

    reference_rotation: Tensor

    @property
    def linear(self) -> Tensor:
        """[3, h, w] linear RGB over latitude and longitude."""
        return self.sqrt_linear.square()

    def forward(self, views: Views, size: Sequence[int]) -> Tensor:
        """[M, 3, H, W] linear RGB of M views."""
        return sample_panorama(self.linear, self.sampling_grid(views, size))

    def sampling_grid(self, views: Views, size: Sequence[int]) -> Tensor:
        """[M, H, W, 2] position of each frame pixel in the panorama, in the coordinates of `grid_sample`."""
        rays = ray_grid(views.Ks, size).to(views.viewmats)
        directions = torch.einsum(
            "mij,mjhw->mihw", self.reference_rotation @ views.viewmats[:, :3, :3].mT, rays
        )
        x, y, z = directions.unbind(1)
        longitude, latitude = torch.atan2(x, z), torch.atan2(y, torch.hypot(x, z))
        west, north, east, south = self.bounds
        x = 2 * (longitude - west) / (east - west) - 1
        y = 2 * (latitude - north) / (south - north) - 1
        return upsample_rays(torch.stack([x, y], dim=1), size)

    def param_groups(self) -> list[dict[str, Any]]:
        """One parameter group."""
        return [{"params": [self.sqrt_linear], "lr": 2e-2}]

    def prior(self) -> Tensor:
        return self.config.tv_weight * total_variation(self.sqrt_linear)

    def step_post_backward(self, optimizer: torch.optim.Optimizer, *, step: int, progress: float) -> None:
        """Nothing: a panorama has a fixed structure."""

    def resize(self, factor: float) -> PanoramaModel:
        """The same panorama with `factor` times as many pixels on a side, by bicubic interpolation."""
        if factor == 1:
            return self
        resized = PanoramaModel(
            self.bounds, self.density * factor, self.reference_rotation, config=self.config
        ).to(self.sqrt_linear.device)
        with torch.no_grad():
            size = resized.sqrt_linear.shape[1:]
            resized.sqrt_linear.copy_(
                interpolate(self.sqrt_linear[None], size, mode="bicubic")[0].clamp_min(0)
            )
        return resized

    def backproject(self, frames: Tensor, views: Views, weights: Tensor) -> None:
        """Initialise with the weighted mean of the frames, backprojected by the adjoint of sampling.

        Args:
            frames: [T, 3, H, W] linear RGB.
            views: Cameras of the frames.
            weights: [T, H, W] weights of the mean.
        """
        with torch.enable_grad():
            blank = torch.zeros_like(self.sqrt_linear).repeat(2, 1, 1)[:4].requires_grad_()
            total = blank.new_zeros(())
            for k in range(len(frames)):
                grid = self.sampling_grid(views[k : k + 1], frames.shape[2:])
                warped = sample_panorama(blank, grid.detach())[0]
                weighted_frame = torch.cat([frames[k], torch.ones_like(frames[k, :1])]) * weights[k]
                total = total + (warped * weighted_frame).sum()
            # The gradient of <sample(x), y> by x is the adjoint of y.
            (sums,) = torch.autograd.grad(total, blank)
        observed = sums[3:] > 1e-3
        mean = sums[:3] / sums[3:].clamp_min(1e-3)
        mean_colour = mean[:, observed[0]].mean(1) if bool(observed.any()) else mean.new_full((3,), 0.25)
        with torch.no_grad():
            self.sqrt_linear.copy_(
                torch.where(observed, mean, mean_colour[:, None, None])
                .clamp_min(self.config.min_linear)
                .sqrt()
            )


def build_panorama(
    trajectory: CameraTrajectory,
    frames: int,
    size: Sequence[int],
    *,
    density: float,
    config: PanoramaConfig = PanoramaConfig(),
) -> PanoramaModel:
    """A panorama of the union of all exposures, with a margin.

    Args:
        trajectory: Camera poses and intrinsics.
        frames: Number of frames.
        size: Height and width of the frames in pixels.
        density: Panorama pixels per radian; less where the panorama would exceed `config.max_pixels`.
        config: Margin and limits.
    """
    times = torch.tensor([-0.5, 0.0, 0.5])
    with torch.no_grad():
        views = Views.cat([trajectory.at(frame, times) for frame in range(frames)])
    reference_rotation = views.viewmats[3 * (frames // 2) + 1, :3, :3]
    rays = ray_grid(views.Ks, size)
    x, y, z = torch.einsum("mij,mjhw->mihw", reference_rotation @ views.viewmats[:, :3, :3].mT, rays).unbind(
        1
    )
    longitude, latitude = torch.atan2(x, z), torch.atan2(y, torch.hypot(x, z))
    edge = config.margin_px / density
    bounds = (
        float(longitude.min()) - edge, float(latitude.min()) - edge,
        float(longitude.max()) + edge, float(latitude.max()) + edge,
    )  # fmt: skip
    pixels = (bounds[2] - bounds[0]) * (bounds[3] - bounds[1]) * density**2
    density = density * min(1, (config.max_pixels / pixels) ** 0.5)
    return PanoramaModel(bounds, density, reference_rotation, config=config)


def ray_grid(Ks: Tensor, size: Sequence[int]) -> Tensor:
    """[M, 3, h, w] rays through a regular grid of pixels of frames of `size`, corners included."""
    # The sagitta of an arc with a chord of `step` pixels is RAY_GRID_ERROR_PX.
    step = max(1.0, (8 * RAY_GRID_ERROR_PX * float(Ks[0, 0, 0].detach())) ** 0.5)
    rows, columns = (_grid_coordinates(side, step).to(Ks) for side in size)
    x = (columns - Ks[:, 0, 2, None]) / Ks[:, 0, 0, None]
    y = (rows - Ks[:, 1, 2, None]) / Ks[:, 1, 1, None]
    shape = (len(Ks), len(rows), len(columns))
    x, y = x[:, None, :].expand(shape), y[:, :, None].expand(shape)
    return torch.stack([x, y, torch.ones_like(x)], dim=1)


def upsample_rays(field: Tensor, size: Sequence[int]) -> Tensor:
    """[M, H, W, 2] bilinear interpolation of a field [M, 2, h, w] on `ray_grid`."""
    upsampled = interpolate(field, tuple(size), mode="bilinear", align_corners=True)
    return upsampled.permute(0, 2, 3, 1)


def sample_panorama(image: Tensor, sampling_grid: Tensor) -> Tensor:
    """[M, C, H, W] samples of an image [C, h, w] at `sampling_grid` [M, H, W, 2]."""
    batch = image.expand(len(sampling_grid), *image.shape)
    return grid_sample(batch, sampling_grid, mode="bilinear", padding_mode="border", align_corners=False)


def _grid_coordinates(side: int, step: float) -> Tensor:
    return torch.linspace(0, side - 1, math.ceil((side - 1) / step) + 1)
