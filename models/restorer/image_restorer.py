"""A whole picture through a network: colours, tiles, number formats, what tiles share and what fits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from freezeframe.data.color import SRGB, to_signal
from freezeframe.models.imageops.context_crops import glances
from freezeframe.models.imageops.tiling import count, in_tiles
from freezeframe.models.imageops.upscale import enlarged, enlarged_codes
from freezeframe.models.registry.architectures import Network, read_network
from freezeframe.models.runtime.backends import ways_of
from freezeframe.models.runtime.device import Precision, find_device
from freezeframe.models.runtime.engine import Way
from freezeframe.models.runtime.memory import bytes_per_pixel, tile_that_fits

from .restorer import Correction, gained

logger = logging.getLogger(__name__)

Watch = Callable[[int, int | None], None]
"""Told how many tiles were done since the last call, and how many there should be in all."""

SMALL = 256  # pixels; a square of this side fits into any memory, whatever the network
OVERLAP = 64  # pixels that tiles share; the outer quarters are left out


def _nobody(_done: int, _total: int | None) -> None:
    """The watch of who does not care."""


@dataclass(slots=True)
class WholeRestorer:
    """Restores pictures, each by itself: [1, 3, H, W] linear RGB, any size, to scale H x scale W.

    Networks were trained on sRGB codes in [0, 1]. Light outside of that range (HDR highlights, out-of-gamut
    colours) is added back as it was, and where the network changes nothing so is the picture, bit for bit.
    """

    network: Network
    device: torch.device
    corrections: Sequence[Correction]  # the fastest first; the next is asked where one is not finite
    tile: int | None  # largest side of a tile in pixels, halved whenever memory runs out; None: what fits
    watch: Watch = _nobody  # told of every tile
    refused: int = 0  # tiles handed back as they came, because no answer was finite

    @property
    def scale(self) -> int:
        """How many times the picture grows."""
        return self.network.scale

    def __call__(self, image: Tensor, /) -> Tensor:
        if self.network.channels == 1 and _is_grey(image):
            return self._restored(image[:, :1]).expand(-1, 3, -1, -1)
        return self._restored(image)

    def _restored(self, image: Tensor) -> Tensor:
        codes = to_signal(image.to(self.device, torch.float32).clamp(0, 1), SRGB)
        channels = self.network.channels
        known = [each.settled(glances(codes[:, :channels])) for each in self.corrections]
        correct = partial(_by_colours, partial(self._correct, known), channels)
        change = self._in_tiles(correct, codes)
        gain = gained(enlarged_codes(codes, self.scale), change)
        return enlarged(image, self.scale) + gain.to(image)

    def _in_tiles(self, correct: Callable[[Tensor], Tensor], codes: Tensor) -> Tensor:
        height, width = codes.shape[-2:]
        tile = self._side(height * width)
        least = self.network.side or 0
        whole = pad(codes, (0, max(least - width, 0), 0, max(least - height, 0)), mode="replicate")
        multiple = self.network.multiple
        tiles = count(whole.shape[-2:], tile=tile, overlap=OVERLAP, multiple=multiple)
        self.watch(0, tiles)

        def watched(part: Tensor) -> Tensor:
            change = correct(part)
            self.watch(1, tiles)
            return change

        change = in_tiles(watched, whole, tile=tile, overlap=OVERLAP, multiple=multiple)
        return change[..., : height * self.scale, : width * self.scale]

    def _side(self, pixels: int) -> int:
        """The largest side of a tile for a picture of so many pixels."""
        if self.network.side is not None:
            return self.network.side
        if self.tile is None and pixels > SMALL**2:
            per_pixel = bytes_per_pixel(self.network.module, channels=self.network.channels)
            self.tile = tile_that_fits(per_pixel, self.device, multiple=self.network.multiple)
        return self.tile or pixels + self.network.multiple

    def _correct(self, corrections: Sequence[Correction], codes: Tensor) -> Tensor:
        """The first finite correction; none at all where none is finite."""
        for correct in corrections:
            change = correct(codes)
            if change.isfinite().all():
                return change
        self.refused += 1
        logger.warning("the network's answer was not a number; %d tiles passed unrestored", self.refused)
        return torch.zeros_like(change)


def load_whole(
    path: Path,
    *,
    device: str | torch.device = "auto",
    precision: Precision = "auto",
    tile: int | None = None,
    way: Way = "auto",
) -> WholeRestorer:
    """The restorer whose weights a file holds.

    Args:
        path: A checkpoint as its authors published it.
        device: Where to compute: auto, cpu, cuda, cuda:1.
        precision: Format of the network's inner numbers; `auto` is the fastest that agrees with fp32.
        tile: Largest side of a tile in pixels; None takes what fits into free memory.
        way: See `ways.ways_of`.

    Raises:
        UnreadableMedia: The file is missing, damaged, unsafe to open, or of an unknown network.
        FreezeframeError: No such device or format, or an optional package is needed.
    """
    return prepare(read_network(path), device=device, precision=precision, tile=tile, way=way)


def prepare(
    network: Network,
    *,
    device: str | torch.device = "auto",
    precision: Precision = "auto",
    tile: int | None = None,
    way: Way = "auto",
) -> WholeRestorer:
    """`network`, placed on its device and ready for pictures; see `load_whole`."""
    place = find_device(device)
    network.module.to(place)
    corrections = ways_of(network, device=place, precision=precision, way=way)
    if tile is not None:
        tile = max(tile // network.multiple, 1) * network.multiple
    return WholeRestorer(network, device=place, corrections=corrections, tile=tile)


def _by_colours(correct: Callable[[Tensor], Tensor], channels: int, codes: Tensor) -> Tensor:
    """A network for grey pictures restores each colour as one."""
    return torch.cat([correct(part) for part in torch.split(codes, channels, dim=1)], dim=1)


def _is_grey(image: Tensor) -> bool:
    return torch.equal(image[:, 0], image[:, 1]) and torch.equal(image[:, 0], image[:, 2])
