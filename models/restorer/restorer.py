"""A network behind linear light's border: colour coding, number format, and what is done when it fails."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from freezeframe.data.color import SRGB, to_light, to_signal
from freezeframe.models.imageops.context_crops import glances
from freezeframe.models.imageops.tiling import Restorer

logger = logging.getLogger(__name__)


class Correction(Protocol):
    """[1, channels, H, W] sRGB codes in [0, 1], float32, to what has to be added to them once enlarged."""

    def __call__(self, codes: Tensor, /) -> Tensor: ...

    def settled(self, parts: list[Tensor], /) -> Correction:
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
    refused: int = 0  # pictures handed back as they came, because no correction was finite

    def __call__(self, image: Tensor, /) -> Tensor:
        return self._restored(self.corrections, image)

    def settled(self, image: Tensor) -> Restorer:
        """This restorer for tiles of `image`: what its network knows of the whole is settled once."""
        parts = glances(self._codes(image))
        return partial(self._restored, [each.settled(parts) for each in self.corrections])

    def _codes(self, image: Tensor) -> Tensor:
        return to_signal(image.to(self.device, torch.float32).clamp(0, 1), SRGB)

    def _restored(self, corrections: Sequence[Correction], image: Tensor, /) -> Tensor:
        codes = self._codes(image)
        for correct in corrections:
            change = correct(codes)
            if change.isfinite().all():
                return image + gained(codes, change).to(image)
        self.refused += 1
        logger.warning("the network's answer was not a number; %d pictures passed unrefined", self.refused)
        return image


def gained(codes: Tensor, change: Tensor) -> Tensor:
    """The light that a change of sRGB codes adds: exactly none where nothing changes, on any processor."""
    gain = to_light((codes + change).clamp(0, 1), SRGB) - to_light(codes, SRGB)
    return gain.masked_fill(change == 0, 0)
