"""Recorded frames of a scene, and the exposure compensation between them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d


@dataclass(frozen=True, slots=True, kw_only=True)
class Observations:
    """Frames of one static scene, with weights."""

    images: Tensor  # [T, 3, H, W] linear RGB
    weights: Tensor  # [T, H, W] in [0, 1]: 0 on independent motion, overlays and saturated pixels
    restored: Tensor | None = None  # [T, 3, H, W] the frames after the video pipeline, as a prior

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.images.shape[2:]
        return height, width

    def to(self, device: torch.device) -> Observations:
        restored = None if self.restored is None else self.restored.to(device)
        return Observations(images=self.images.to(device), weights=self.weights.to(device), restored=restored)

    def downsample(self, downscale: int) -> Observations:
        """Block means of `downscale` x `downscale` pixels; incomplete blocks at the border are cropped."""
        if downscale == 1:
            return self
        height, width = (side // downscale * downscale for side in self.size)

        def pool(field: Tensor) -> Tensor:
            return avg_pool2d(field[..., :height, :width], downscale)

        restored = None if self.restored is None else pool(self.restored)
        return Observations(images=pool(self.images), weights=pool(self.weights), restored=restored)


class ExposureCompensation(nn.Module):
    """Gain and bias per frame and channel, relative to their means over all frames."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(count, 3))
        self.bias = nn.Parameter(torch.zeros(count, 3))

    def forward(self, linear: Tensor, frame: int) -> Tensor:
        """[3, H, W] with the exposure and white balance of a frame."""
        gain, bias = (each[frame] - each.mean(0) for each in (self.gain, self.bias))
        return linear * gain.exp()[:, None, None] + bias[:, None, None]

    def prior(self) -> Tensor:
        """Mean squares of gain and bias."""
        return self.gain.square().mean() + self.bias.square().mean()
