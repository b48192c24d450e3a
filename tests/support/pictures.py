"""Pictures, frames and sources in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from freezeframe.data.types import Box, Frame


@dataclass(frozen=True, eq=False)
class LinearPicture:
    """A picture of linear RGB, without any rounding."""

    image: Tensor  # [3, H, W]

    @property
    def size(self) -> tuple[int, int]:
        return self.image.shape[1], self.image.shape[2]

    def linear(self) -> Tensor:
        return self.image

    def luma(self) -> Tensor:
        return (self.image.mean(0).clamp(0, 1).sqrt() * 255).byte()

    def with_linear(self, image: Tensor) -> LinearPicture:
        return LinearPicture(image)

    def linear_in(self, box: Box) -> Tensor:
        return self.image[:, *box.slices(self.size)]

    def with_linear_in(self, box: Box, image: Tensor, mask: Tensor) -> LinearPicture:
        copy = self.image.clone()
        copy[:, *box.slices(self.size)][:, mask] = image[:, mask]
        return LinearPicture(copy)


def frames_of(images: Tensor) -> tuple[Frame, ...]:
    """Frames at 25 per second of [T, 3, H, W] linear RGB."""
    return tuple(
        Frame(index=i, time=Fraction(i, 25), picture=LinearPicture(image)) for i, image in enumerate(images)
    )


@dataclass(frozen=True)
class MemorySource:
    """A source of frames in memory."""

    images: Tensor  # [T, 3, H, W] linear RGB
    name: str = "memory"
    rate: Fraction = Fraction(25)

    @property
    def count(self) -> int:
        return len(self.images)

    def frames(self, *, first: int = 0) -> Iterator[Frame]:
        return iter(frames_of(self.images)[first:])

    def sample_clips(self, runs: int, length: int) -> Iterator[tuple[Frame, ...]]:
        starts = np.linspace(0, max(0, self.count - length), runs).round().astype(int)
        return (frames_of(self.images)[start : start + length] for start in sorted(set(starts.tolist())))


def noise_like(images: Tensor, sigma: float, *, seed: int = 0) -> Tensor:
    """Gaussian noise in the shape of `images`."""
    return sigma * torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
