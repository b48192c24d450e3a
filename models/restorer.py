"""A network behind linear light's border: colour coding, number format, and what is done when it fails."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from ..data.color import SRGB, to_light, to_signal
from .glances import glances

logger = logging.getLogger(__name__)

Correction = Callable[[Tensor], Tensor]
"""[1, 3, H, W] sRGB codes in [0, 1], float32, to what has to be added to them."""


class Restorer(Protocol):
    """Improves a picture by itself. [1, 3, H, W] linear RGB of any size to the same."""

    def __call__(self, image: Tensor, /) -> Tensor: ...


class Corrector(Protocol):
    """A network that tells what has to be added to sRGB codes, in the codes' number format.

    One with statistics of the whole picture also has `degradation(codes)`, and takes the answer as an
    argument of that name.
    """

    def correction(self, codes: Tensor, /) -> Tensor: ...


@dataclass(slots=True)
class NetworkRestorer:
    """A restorer made of corrections, the fastest first; the next is asked where one answers NaN or infinity.

    Networks were trained on sRGB codes in [0, 1]. Light outside of that range (HDR highlights, out-of-gamut
    colours) is added back as it was, and where the network changes nothing the image is returned bit for bit.
    """

    corrections: tuple[Correction, ...]
    device: torch.device
    multiple: int = 1  # pixels of the network's grid: tiles agree best that start and stop on it
    refused: int = 0  # pictures handed back as they came, because no correction was finite

    def __call__(self, image: Tensor, /) -> Tensor:
        return self._restored(self.corrections, image)

    def settled(self, image: Tensor) -> Restorer:
        """This restorer for tiles of `image`: what its network knows of the whole is settled once."""
        parts = glances(self._codes(image))
        return partial(self._restored, tuple(_settled(each, parts) for each in self.corrections))

    def _codes(self, image: Tensor) -> Tensor:
        return to_signal(image.to(self.device, torch.float32).clamp(0, 1), SRGB)

    def _restored(self, corrections: tuple[Correction, ...], image: Tensor, /) -> Tensor:
        codes = self._codes(image)
        for correct in corrections:
            change = correct(codes)
            if change.isfinite().all():
                gain = to_light((codes + change).clamp(0, 1), SRGB) - to_light(codes, SRGB)
                return image + gain.to(image)
        self.refused += 1
        logger.warning("the network's answer was not a number; %d pictures passed unrefined", self.refused)
        return image


@dataclass(frozen=True, slots=True)
class Computed:
    """A correction by a network at one number format, knowing or not what happened to the whole picture."""

    network: Corrector
    dtype: torch.dtype
    told: Tensor | None = None  # from the network's `degradation`

    def __call__(self, codes: Tensor) -> Tensor:
        correct = self.network.correction
        if self.told is not None:
            correct = partial(cast("Callable[..., Tensor]", correct), degradation=self.told)
        with torch.no_grad():
            return correct(self._placed(codes)).float()

    def settled(self, parts: list[Tensor]) -> Computed:
        """The same for a picture of which these parts tell; itself where the network does not ask."""
        describe: Correction | None = getattr(self.network, "degradation", None)
        if describe is None:
            return self
        with torch.no_grad():
            told = torch.stack([describe(self._placed(part)) for part in parts]).mean(0)
        return replace(self, told=told)

    def _placed(self, codes: Tensor) -> Tensor:
        # Half precision on the CPU is faster than fp32 only with the channels of a pixel side by side.
        dtype = torch.float32 if hasattr(self.network, "evidence") else self.dtype
        return codes.to(dtype, memory_format=torch.channels_last)


def _settled(correct: Correction, parts: list[Tensor]) -> Correction:
    return correct.settled(parts) if isinstance(correct, Computed) else correct


def corrections(network: nn.Module, *, device: torch.device, dtype: torch.dtype) -> tuple[Correction, ...]:
    """A `Corrector` at `dtype`, then at fp32 for what overflows there, each with weights of its own."""
    formats = dict.fromkeys((dtype, torch.float32))
    copies = (cast("Corrector", copy.deepcopy(network).to(device, each)) for each in formats)
    return tuple(Computed(placed, each) for placed, each in zip(copies, formats, strict=True))
