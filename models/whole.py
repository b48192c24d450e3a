"""A whole picture through a network: colours, tiles, number formats, what tiles share and what fits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from ..data.color import SRGB, to_light, to_signal
from ..data.errors import FreezeframeError
from .device import Precision, find_device, number_format
from .footprint import bytes_per_pixel, tile_that_fits
from .glances import glances
from .networks import Network, read_network
from .tiles import count, in_tiles

logger = logging.getLogger(__name__)

Watch = Callable[[int, int | None], None]
"""Told how many tiles were done since the last call, and how many there should be in all."""

SMALL = 256  # pixels; a square of this side fits into any memory, whatever the network
OVERLAP = 64  # pixels that tiles share; the outer quarters are left out

Correction = Callable[[Tensor], Tensor]
"""[1, 3, H, W] sRGB codes in [0, 1], float32, to what has to be added to them, once they are enlarged."""


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
    dtype: torch.dtype  # of the network's inner numbers; what overflows is computed again in fp32
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
        correct = partial(_by_colours, partial(self._correct, self._settled(codes)), self.network.channels)
        change = self._in_tiles(correct, codes)
        coded = _enlarged_codes(codes, self.scale)
        gain = to_light((coded + change).clamp(0, 1), SRGB) - to_light(coded, SRGB)
        return enlarged(image, self.scale) + gain.to(image)

    def _in_tiles(self, correct: Correction, codes: Tensor) -> Tensor:
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

    def _settled(self, codes: Tensor) -> Correction:
        """The network's correction of this picture, with all that tiles must agree upon."""
        module = self.network.module
        correct: Callable[..., Tensor] = partial(_difference, module)
        if self.scale == 1:  # who tells the change itself does not round the picture
            correct = getattr(module, "correction", correct)
        if not self.network.shares:
            return correct
        describe = cast("Callable[[Tensor], Tensor]", module.degradation)
        with _computing(self.device, self.dtype):
            told = [describe(part) for part in glances(codes)]
        return partial(correct, degradation=torch.stack(told).mean(0))

    def _correct(self, correct: Correction, codes: Tensor) -> Tensor:
        """The first finite correction, at `dtype` or in fp32; none at all where neither is finite."""
        for dtype in dict.fromkeys((self.dtype, torch.float32)):
            with _computing(self.device, dtype):
                change = correct(codes).float()
            if change.isfinite().all():
                return change
        self.refused += 1
        logger.warning("the network's answer was not a number; %d tiles passed unrestored", self.refused)
        return torch.zeros_like(change)


@contextmanager
def _computing(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Convolutions and products at `dtype`, sums and norms in fp32, no gradients."""
    with torch.no_grad(), torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        yield


def load_whole(
    path: Path, *, device: str | torch.device = "auto", precision: Precision = "auto", tile: int | None = None
) -> WholeRestorer:
    """The restorer whose weights a file holds.

    Args:
        path: A checkpoint as its authors published it.
        device: Where to compute: auto, cpu, cuda, cuda:1.
        precision: Format of the network's inner numbers; `auto` is the fastest that it bears.
        tile: Largest side of a tile in pixels; None takes what fits into free memory.

    Raises:
        UnreadableMedia: The file is missing, damaged, unsafe to open, or of an unknown network.
        FreezeframeError: No such device or format, or an optional package is needed.
    """
    return prepare(read_network(path), device=device, precision=precision, tile=tile)


def prepare(
    network: Network,
    *,
    device: str | torch.device = "auto",
    precision: Precision = "auto",
    tile: int | None = None,
) -> WholeRestorer:
    """`network`, placed on its device and ready for pictures; see `load_whole`."""
    place = find_device(device)
    dtype = format_for(network, place, precision)
    network.module.to(place)
    if tile is not None:
        tile = max(tile // network.multiple, 1) * network.multiple
    return WholeRestorer(network, device=place, dtype=dtype, tile=tile)


def format_for(network: Network, device: torch.device, precision: Precision) -> torch.dtype:
    """The number format that was asked for; `auto` never overflows: bf16 reaches as far as fp32."""
    dtype = number_format(device, precision)
    if dtype != torch.float16 or network.fp16:
        return dtype
    if precision == "fp16":
        raise FreezeframeError(
            f"precision fp16: {network.title} overflows in it and answers black or nothing; use bf16 or auto"
        )
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32


def enlarged(light: Tensor, scale: int) -> Tensor:
    """Bicubic, `scale` times as many pixels on either side; the very light at 1. [B, C, H, W].

    Where it overshoots it is cut to [0, 1], but for what was outside before.
    """
    if scale == 1:
        return light
    inside = light.clamp(0, 1)
    return _bicubic(inside, scale).clamp(0, 1) + _bicubic(light - inside, scale)


def _bicubic(image: Tensor, scale: int) -> Tensor:
    return interpolate(image, scale_factor=scale, mode="bicubic", align_corners=False)


def _difference(module: Callable[[Tensor], Tensor], codes: Tensor) -> Tensor:
    """What a network adds to its input, enlarged in light: the scale is that of its answer."""
    answer = module(codes)
    return answer - _enlarged_codes(codes, answer.shape[-1] // codes.shape[-1])


def _enlarged_codes(codes: Tensor, scale: int) -> Tensor:
    return codes if scale == 1 else to_signal(enlarged(to_light(codes.clone(), SRGB), scale), SRGB)


def _by_colours(correct: Correction, channels: int, codes: Tensor) -> Tensor:
    """A network for grey pictures restores each colour as one."""
    return torch.cat([correct(part) for part in torch.split(codes, channels, dim=1)], dim=1)


def _is_grey(image: Tensor) -> bool:
    return torch.equal(image[:, 0], image[:, 1]) and torch.equal(image[:, 0], image[:, 2])
