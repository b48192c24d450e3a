"""A layer: a picture with a soft mask that moves along a continuous path over a known background.

    recorded = mean over the exposure of F M + (1 - M) B

F is the picture, M its mask, both in the coordinates of the object, and B the background (Rozumnyi et al.,
Tracking by Deblatting, IJCV 2021; Motion-from-Blur, CVPR 2022). One path runs through all frames: motion
between frames and motion within an exposure are parts of one curve.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from freezeframe.splatting.camera.curves import hermite, spline_slopes

from .exposure import Mesh, expose_layer

BORDER = 2  # pixels of the mesh beyond the texture


@dataclass(frozen=True, slots=True, kw_only=True)
class Crops:
    """What a few frames recorded of one object, and the background behind it; one crop per frame."""

    images: Tensor  # [T, 3, H, W] linear RGB
    background: Tensor  # [T, 3, H, W] linear RGB
    weight: Tensor  # [T, H, W] in [0, 1]; 0 where nothing is known of the light or of the background
    origin: Tensor  # [T, 2] frame coordinates (x, y) of the first pixel
    times: Tensor  # [T] frame intervals

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.images.shape[2:]
        return height, width

    def select(self, picks: Sequence[int]) -> Crops:
        """The crops with these numbers."""
        which = list(picks)
        return Crops(
            images=self.images[which],
            background=self.background[which],
            weight=self.weight[which],
            origin=self.origin[which],
            times=self.times[which],
        )


class Layer(nn.Module):
    """A texture on a path through the frames of `crops`, at 1 / `downscale` of their resolution.

    Args:
        texture_logits: Logits of the square roots of light, and of alpha. [4, h, w].
        position: Frame coordinates of the centre at each frame. [T, 2].
        mesh_size: Rows and columns of the nodes.
        shutter: Exposure time over frame interval, (0, 1).
        downscale: Pixels of a frame on a side per pixel of the texture.
    """

    def __init__(
        self,
        texture_logits: Tensor,
        position: Tensor,
        *,
        mesh_size: tuple[int, int],
        shutter: float,
        downscale: int,
    ) -> None:
        super().__init__()
        count, (rows, columns) = len(position), mesh_size
        self.downscale, self.mesh_size = downscale, mesh_size
        self.texture_logits = nn.Parameter(texture_logits)
        self.position = nn.Parameter(position.clone())
        self.rotation = nn.Parameter(torch.zeros(count, 1))  # radians
        self.log_scale = nn.Parameter(torch.zeros(count, 1))
        self.deformation = nn.Parameter(torch.zeros(count, rows * columns * 2))  # pixels of a frame
        self.shutter_logit = nn.Parameter(torch.tensor(math.log(shutter / (1 - shutter))))

    @property
    def shutter(self) -> Tensor:
        """Exposure time over frame interval."""
        return torch.sigmoid(self.shutter_logit)

    def colour_and_alpha(self) -> tuple[Tensor, Tensor]:
        """Square roots of linear RGB, [3, h, w], and alpha, [1, h, w], which is 0 at the border."""
        alpha = torch.sigmoid(self.texture_logits[3:])
        inside = torch.zeros_like(alpha)
        inside[:, 1:-1, 1:-1] = 1
        return torch.sigmoid(self.texture_logits[:3]), alpha * inside

    def resize(self, downscale: int) -> Layer:
        """The layer at another resolution."""
        height, width = (
            round((side - 2) * self.downscale / downscale) for side in self.texture_logits.shape[1:]
        )
        inside = self.texture_logits.detach()[None, :, 1:-1, 1:-1]
        resized = interpolate(inside, size=(height, width), mode="bilinear")
        resized = pad(resized, (1, 1, 1, 1), mode="replicate")[0]
        layer = Layer(
            resized,
            self.position.detach(),
            mesh_size=self.mesh_size,
            shutter=float(self.shutter.detach()),
            downscale=downscale,
        )
        for name in ("rotation", "log_scale", "deformation"):
            getattr(layer, name).data.copy_(getattr(self, name).data)
        return layer

    def exposures(self, crops: Crops, frames: Sequence[int], time_offsets: Tensor) -> Tensor:
        """[M, 4, H, W] mean premultiplied light and alpha over the exposures of `frames`.

        Args:
            crops: At the resolution of the layer.
            frames: Numbers of the crops.
            time_offsets: Instants of an exposure as fractions of it, -1/2 to 1/2. [K]; 0 is the middle.
        """
        times = crops.times[list(frames), None] + self.shutter * time_offsets
        mesh = self._mesh(times, crops.times, crops.origin[list(frames)])
        colour, alpha = self.colour_and_alpha()
        return expose_layer(torch.cat([colour.square() * alpha, alpha]), mesh, crops.size)

    def motion(self) -> Tensor:
        """All parameters of the motion at each frame, [T, 4 + 2 gh gw]: position, rotation, scale, nodes."""
        return torch.cat([self.position, self.rotation, self.log_scale, self.deformation], dim=1)

    def set_motion_gradients(self, gradients: Tensor) -> None:
        """Set the gradients of the parameters of the motion to those by `motion`, [T, 4 + 2 gh gw]."""
        parts = (self.position, self.rotation, self.log_scale, self.deformation)
        splits = torch.split(gradients, [part.shape[1] for part in parts], dim=1)
        for part, gradient in zip(parts, splits, strict=True):
            part.grad = gradient.contiguous()

    def velocity(self, times: Tensor) -> Tensor:
        """Velocity of the centre at each frame, [T, 2] pixels of a frame per interval. Takes no gradient."""
        velocity: Tensor = spline_slopes(times) @ self.position.detach()
        return velocity

    def blur_length(self, times: Tensor) -> float:
        """Longest path of the centre during an exposure, pixels of a frame. Takes no gradient."""
        return float(self.velocity(times).norm(dim=1).max() * self.shutter.detach())

    def _mesh(self, times: Tensor, knots: Tensor, origin: Tensor) -> Mesh:
        """The mesh at `times`, [M, K]; `origin`, [M, 2], is that of the crops."""
        height, width = self.texture_logits.shape[1:]
        rows, columns = self.mesh_size
        motion = self.motion()
        slopes = spline_slopes(knots) @ motion
        states = hermite(times.flatten(), knots, motion, slopes).view(*times.shape, -1)
        position, angle, log_scale = states[..., :2], states[..., 2], states[..., 3]
        deformation = states[..., 4:].reshape(*times.shape, rows, columns, 2) / self.downscale
        half = self.half_extent()
        x, y = torch.linspace(-half[0], half[0], columns), torch.linspace(-half[1], half[1], rows)[:, None]
        cos, sin = torch.cos(angle)[..., None, None], torch.sin(angle)[..., None, None]
        turned = torch.stack([cos * x + sin * y, cos * y - sin * x], dim=-1)
        centre = turned.new_tensor([(width - 1) / 2, (height - 1) / 2])
        nodes = turned * torch.exp(-log_scale)[..., None, None, None] + centre + deformation
        return Mesh(
            position=(position - origin[:, None] + 0.5) / self.downscale - 0.5, nodes=nodes, half=half
        )

    def half_extent(self) -> tuple[float, float]:
        """Half the width and height, pixels, of a mesh that holds the texture at all its angles."""
        height, width = self.texture_logits.shape[1:]
        cos, sin = torch.cos(self.rotation.detach()).abs(), torch.sin(self.rotation.detach()).abs()
        scale = torch.exp(self.log_scale.detach())
        across, down = scale * (cos * width + sin * height), scale * (cos * height + sin * width)
        return float(across.max()) / 2 + BORDER, float(down.max()) / 2 + BORDER


def over_background(exposure: Tensor, background: Tensor) -> Tensor:
    """Exposures [M, 4, H, W] of a layer over backgrounds [M, 3, H, W]: [M, 3, H, W] linear RGB."""
    return exposure[:, :3] + (1 - exposure[:, 3:]) * background
