"""A network behind linear light's border: colour coding, number format, and what is done when it fails."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from freezeframe.data.color import SRGB, to_encoded, to_linear
from freezeframe.models.imageops.context_crops import context_crops
from freezeframe.models.imageops.tiling import Restorer

logger = logging.getLogger(__name__)


class Correction(Protocol):
    """[1, channels, H, W] sRGB codes in [0, 1], float32, to what has to be added to them once enlarged."""

    def __call__(self, encoded: Tensor, /) -> Tensor: ...

    def with_context(self, crops: list[Tensor], /) -> Correction:
        """The same for tiles of a picture of which these parts tell."""

    def name(self) -> str:
        """Which way it is."""


@dataclass(slots=True)
class NetworkRestorer:
    """A restorer made of corrections, the fastest first; the next is asked where one answers NaN or infinity.

    Networks were trained on sRGB codes in [0, 1]. Light outside of that range (HDR highlights, out-of-gamut
    colours) is added back as it was, and where the network changes nothing the image is returned bit for bit.
    """

    corrections: Sequence[Correction]
    device: torch.device
    multiple: int = 1  # pixels of the network's grid: tiles agree best that start and stop on it
    failed_tiles: int = 0  # pictures handed back as they came, because no correction was finite

    def __call__(self, image: Tensor, /) -> Tensor:
        return self._restore(self.corrections, image)

    def with_context(self, image: Tensor) -> Restorer:
        """This restorer for tiles of `image`: what its network knows of the whole is settled once."""
        crops = context_crops(self._codes(image))
        return partial(self._restore, [each.with_context(crops) for each in self.corrections])

    def _codes(self, image: Tensor) -> Tensor:
        return to_encoded(image.to(self.device, torch.float32).clamp(0, 1), SRGB)

    def _restore(self, corrections: Sequence[Correction], image: Tensor, /) -> Tensor:
        encoded = self._codes(image)
        for correct in corrections:
            change = correct(encoded)
            if change.isfinite().all():
                return image + linear_gain(encoded, change).to(image)
        self.failed_tiles += 1
        logger.warning(
            "the network's answer was not a number; %d pictures passed unrefined", self.failed_tiles
        )
        return image


def linear_gain(encoded: Tensor, change: Tensor) -> Tensor:
    """The light that a change of sRGB codes adds: exactly none where nothing changes, on any processor."""
    gain = to_linear((encoded + change).clamp(0, 1), SRGB) - to_linear(encoded, SRGB)
    return gain.masked_fill(change == 0, 0)
