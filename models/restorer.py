"""A network behind linear light's border: colour coding, number format, and what is done when it fails."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..data.color import SRGB, to_light, to_signal
from .nafnet import NAFNet

logger = logging.getLogger(__name__)

Correction = Callable[[Tensor], Tensor]
"""[1, 3, H, W] sRGB codes in [0, 1], float32, to what has to be added to them."""


class Restorer(Protocol):
    """Improves a picture by itself. [1, 3, H, W] linear RGB of any size to the same."""

    def __call__(self, image: Tensor, /) -> Tensor: ...


@dataclass(slots=True)
class NetworkRestorer:
    """A restorer made of corrections, the fastest first; the next is asked where one answers NaN or infinity.

    Networks were trained on sRGB codes in [0, 1]. Light outside of that range (HDR highlights, out-of-gamut
    colours) is added back as it was, and where the network changes nothing the image is returned bit for bit.
    """

    corrections: tuple[Correction, ...]
    device: torch.device
    refused: int = 0  # pictures handed back as they came, because no correction was finite

    def __call__(self, image: Tensor, /) -> Tensor:
        codes = to_signal(image.to(self.device, torch.float32).clamp(0, 1), SRGB)
        for correct in self.corrections:
            change = correct(codes)
            if change.isfinite().all():
                gain = to_light((codes + change).clamp(0, 1), SRGB) - to_light(codes, SRGB)
                return image + gain.to(image)
        self.refused += 1
        logger.warning("the network's answer was not a number; %d pictures passed unrefined", self.refused)
        return image


def corrections(network: NAFNet, *, device: torch.device, dtype: torch.dtype) -> tuple[Correction, ...]:
    """The network at `dtype`, then at fp32 for what overflows there, each with weights of its own."""
    formats = dict.fromkeys((dtype, torch.float32))
    return tuple(_computed_in(network, device=device, dtype=each) for each in formats)


def _computed_in(network: NAFNet, *, device: torch.device, dtype: torch.dtype) -> Correction:
    # Half precision on the CPU is faster than fp32 only with the channels of a pixel side by side.
    placed = copy.deepcopy(network).to(device, dtype)

    def correct(codes: Tensor) -> Tensor:
        with torch.no_grad():
            return placed.correction(codes.to(dtype, memory_format=torch.channels_last)).float()

    return correct
