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

from freezeframe.data.color import SRGB, to_encoded
from freezeframe.models.imageops.context_crops import context_crops
from freezeframe.models.imageops.tiling import count_tiles, tiled_inference
from freezeframe.models.imageops.upscale import upsample, upsample_encoded
from freezeframe.models.registry.architectures import Network, read_network
from freezeframe.models.runtime.backends import build_backends
from freezeframe.models.runtime.device import Precision, find_device
from freezeframe.models.runtime.engine import BackendName
from freezeframe.models.runtime.memory import bytes_per_pixel, max_tile_side

from .restorer import Correction, linear_gain

logger = logging.getLogger(__name__)

OnTile = Callable[[int, int | None], None]
"""Told how many tiles were done since the last call, and how many there should be in all."""

SMALL_SIDE = 256  # pixels; a square of this side fits into any memory, whatever the network
OVERLAP = 64  # pixels that tiles share; the outer quarters are left out


def null_progress(_done: int, _total: int | None) -> None:
    """The watch of who does not care."""


@dataclass(slots=True)
class ImageRestorer:
    """Restores pictures, each by itself: [1, 3, H, W] linear RGB, any size, to scale H x scale W.

    Networks were trained on sRGB codes in [0, 1]. Light outside of that range (HDR highlights, out-of-gamut
    colours) is added back as it was, and where the network changes nothing so is the picture, bit for bit.
    """

    network: Network
    device: torch.device
    corrections: Sequence[Correction]  # the fastest first; the next is asked where one is not finite
    tile: int | None  # largest side of a tile in pixels, halved whenever memory runs out; None: what fits
    on_progress: OnTile = null_progress  # told of every tile
    failed_tiles: int = 0  # tiles handed back as they came, because no answer was finite

    @property
    def scale(self) -> int:
        """How many times the picture grows."""
        return self.network.scale

    def __call__(self, image: Tensor, /) -> Tensor:
        if self.network.channels == 1 and _is_grey(image):
            return self._restore(image[:, :1]).expand(-1, 3, -1, -1)
        return self._restore(image)

    def _restore(self, image: Tensor) -> Tensor:
        encoded = to_encoded(image.to(self.device, torch.float32).clamp(0, 1), SRGB)
        channels = self.network.channels
        with_contexts = [each.with_context(context_crops(encoded[:, :channels])) for each in self.corrections]
        correct = partial(_per_channel, partial(self._correct, with_contexts), channels)
        change = self._in_tiles(correct, encoded)
        gain = linear_gain(upsample_encoded(encoded, self.scale), change)
        return upsample(image, self.scale) + gain.to(image)

    def _in_tiles(self, correct: Callable[[Tensor], Tensor], encoded: Tensor) -> Tensor:
        height, width = encoded.shape[-2:]
        tile = self._tile_side(height * width)
        min_side = self.network.side or 0
        padded = pad(encoded, (0, max(min_side - width, 0), 0, max(min_side - height, 0)), mode="replicate")
        multiple = self.network.multiple
        tiles = count_tiles(padded.shape[-2:], tile=tile, overlap=OVERLAP, multiple=multiple)
        self.on_progress(0, tiles)

        def correct_and_report(part: Tensor) -> Tensor:
            change = correct(part)
            self.on_progress(1, tiles)
            return change

        change = tiled_inference(correct_and_report, padded, tile=tile, overlap=OVERLAP, multiple=multiple)
        return change[..., : height * self.scale, : width * self.scale]

    def _tile_side(self, pixels: int) -> int:
        """The largest side of a tile for a picture of so many pixels."""
        if self.network.side is not None:
            return self.network.side
        if self.tile is None and pixels > SMALL_SIDE**2:
            per_pixel = bytes_per_pixel(self.network.module, channels=self.network.channels)
            self.tile = max_tile_side(per_pixel, self.device, multiple=self.network.multiple)
        return self.tile or pixels + self.network.multiple

    def _correct(self, corrections: Sequence[Correction], encoded: Tensor) -> Tensor:
        """The first finite correction; none at all where none is finite."""
        for correct in corrections:
            change = correct(encoded)
            if change.isfinite().all():
                return change
        self.failed_tiles += 1
        logger.warning("the network's answer was not a number; %d tiles passed unrestored", self.failed_tiles)
        return torch.zeros_like(change)


def load_image_restorer(
    path: Path,
    *,
    device: str | torch.device = "auto",
    precision: Precision = "auto",
    tile: int | None = None,
    backend: BackendName = "auto",
) -> ImageRestorer:
    """The restorer whose weights a file holds.

    Args:
        path: A checkpoint as its authors published it.
        device: Where to compute: auto, cpu, cuda, cuda:1.
        precision: Format of the network's inner numbers; `auto` is the fastest that agrees with fp32.
        tile: Largest side of a tile in pixels; None takes what fits into free memory.
        backend: See `ways.build_backends`.

    Raises:
        UnreadableMedia: The file is missing, damaged, unsafe to open, or of an unknown network.
        FreezeframeError: No such device or format, or an optional package is needed.
    """
    return build_image_restorer(
        read_network(path), device=device, precision=precision, tile=tile, backend=backend
    )


def build_image_restorer(
    network: Network,
    *,
    device: str | torch.device = "auto",
    precision: Precision = "auto",
    tile: int | None = None,
    backend: BackendName = "auto",
) -> ImageRestorer:
    """`network`, placed on its device and ready for pictures; see `load_image_restorer`."""
    torch_device = find_device(device)
    network.module.to(torch_device)
    corrections = build_backends(network, device=torch_device, precision=precision, backend=backend)
    if tile is not None:
        tile = max(tile // network.multiple, 1) * network.multiple
    return ImageRestorer(network, device=torch_device, corrections=corrections, tile=tile)


def _per_channel(correct: Callable[[Tensor], Tensor], channels: int, encoded: Tensor) -> Tensor:
    """A network for grey pictures restores each colour as one."""
    return torch.cat([correct(part) for part in torch.split(encoded, channels, dim=1)], dim=1)


def _is_grey(image: Tensor) -> bool:
    return torch.equal(image[:, 0], image[:, 1]) and torch.equal(image[:, 0], image[:, 2])
