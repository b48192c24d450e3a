"""What was recorded of a scene, and how each frame's exposure differs from the others'."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

_PRIOR_WEIGHT = 1.0  # weight of the prior that exposure does not change


@dataclass(frozen=True, slots=True, kw_only=True)
class Observations:
    """Frames of one static scene."""

    images: Tensor  # [T, 3, H, W] linear light
    weights: Tensor  # [T, H, W] in [0, 1]: 0 for movers, overlays and where the sensor was saturated
    restored: Tensor | None = None  # [T, 3, H, W] what a single-image restorer makes of each frame

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.images.shape[2:]
        return height, width

    def to(self, device: torch.device) -> Observations:
        """The same on a device."""
        restored = None if self.restored is None else self.restored.to(device)
        return Observations(images=self.images.to(device), weights=self.weights.to(device), restored=restored)

    def downsample(self, downscale: int) -> Observations:
        """The footage with `downscale` times fewer pixels on a side; what is left over is cut."""
        if downscale == 1:
            return self
        height, width = (side // downscale * downscale for side in self.size)

        def pool(field: Tensor) -> Tensor:
            return avg_pool2d(field[..., :height, :width], downscale)

        restored = None if self.restored is None else pool(self.restored)
        return Observations(images=pool(self.images), weights=pool(self.weights), restored=restored)


class ExposureCompensation(nn.Module):
    """Each frame's exposure and white balance beside the mean of all: gain and bias per channel."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(count, 3))
        self.bias = nn.Parameter(torch.zeros(count, 3))

    def forward(self, linear: Tensor, frame: int) -> Tensor:
        """[3, H, W] as frame number `frame` recorded it."""
        gain, bias = (each[frame] - each.mean(0) for each in (self.gain, self.bias))
        return linear * gain.exp()[:, None, None] + bias[:, None, None]

    def prior(self) -> Tensor:
        """What is held against changes of exposure."""
        return _PRIOR_WEIGHT * (self.gain.square().mean() + self.bias.square().mean())
