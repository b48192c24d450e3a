"""Restoration of single images of any size by one network: encoding, tiles, global context and fallbacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from freezeframe.data.color import SRGB, to_encoded, to_linear
from freezeframe.data.errors import UnreadableMedia
from freezeframe.models.imageops.context_crops import context_crops
from freezeframe.models.imageops.tiling import Restorer, count_tiles, tiled_inference
from freezeframe.models.imageops.upscale import upsample, upsample_encoded
from freezeframe.models.registry.architectures import Network, read_network
from freezeframe.models.runtime.autotune import RECOMMENDED, AutotuneConfig, build_backends
from freezeframe.models.runtime.backends import Backend, BackendName, RunLog, first_finite
from freezeframe.models.runtime.device import Precision, find_device
from freezeframe.models.runtime.memory import bytes_per_pixel, max_tile_side

from .inference import restorer_model

OnTile = Callable[[int, int | None], None]
"""Called with the number of tiles since the last call, and of all tiles."""

SMALL_SIDE = 256  # pixels; a square of this side fits into any memory, whatever the network
OVERLAP = 64  # pixels that tiles share; the outer quarters are discarded


def null_progress(_done: int, _total: int | None) -> None:
    """Ignore progress."""


@dataclass(slots=True, kw_only=True)
class ImageRestorer:
    """Restores single images: [1, 3, H, W] linear RGB, any size, to [1, 3, scale H, scale W].

    Networks are trained on sRGB-encoded images in [0, 1]. Values outside of that range (HDR highlights,
    out-of-gamut colours) are added back unchanged. A pixel with a zero correction keeps every bit.
    """

    network: Network
    device: torch.device
    backends: Sequence[Backend]  # the next one runs where one returns NaN or infinity
    tile: int | None = None  # largest side of a tile in pixels; None: set at the first large image
    log: RunLog = field(default_factory=RunLog)

    @property
    def scale(self) -> int:
        """Size of the output over size of the input."""
        return self.network.scale

    @property
    def multiple(self) -> int:
        """Pixels of the network's grid: tiles start and stop on it."""
        return self.network.multiple

    def __call__(
        self, image: Tensor, /, *, on_progress: OnTile = null_progress, log: RunLog | None = None
    ) -> Tensor:
        """Restore an image, in tiles if it is large; `log` counts them (default: the restorer's own log)."""
        tiles_log = self.log if log is None else log
        if self.network.channels == 1 and _is_grey(image):
            return self._restore(image[:, :1], on_progress, tiles_log).expand(-1, 3, -1, -1)
        return self._restore(image, on_progress, tiles_log)

    def for_tiles_of(self, image: Tensor) -> Restorer:
        """The restorer for tiles of `image` that the caller cuts; they share its global statistics."""
        backends = self._with_context(self._encode(image))

        def restore_tile(tile: Tensor, /) -> Tensor:
            encoded = self._encode(tile)
            return self._add(tile, encoded, self._correct(backends, self.log, encoded))

        return restore_tile

    def _restore(self, image: Tensor, on_progress: OnTile, log: RunLog) -> Tensor:
        encoded = self._encode(image)
        correct = partial(self._correct, self._with_context(encoded), log)
        return self._add(image, encoded, self._in_tiles(correct, encoded, on_progress))

    def _encode(self, image: Tensor) -> Tensor:
        return to_encoded(image.to(self.device, torch.float32).clamp(0, 1), SRGB)

    def _with_context(self, encoded: Tensor) -> list[Backend]:
        crops = context_crops(encoded[:, : self.network.channels])
        return [backend.with_context(crops) for backend in self.backends]

    def _correct(self, backends: Sequence[Backend], log: RunLog, encoded: Tensor) -> Tensor:
        """A greyscale network restores each colour as a greyscale image."""
        parts = torch.split(encoded, self.network.channels, dim=1)
        return torch.cat([first_finite(backends, part, log) for part in parts], dim=1)

    def _add(self, image: Tensor, encoded: Tensor, correction: Tensor) -> Tensor:
        gain = linear_gain(upsample_encoded(encoded, self.scale), correction)
        return upsample(image, self.scale) + gain.to(image)

    def _in_tiles(self, correct: Callable[[Tensor], Tensor], encoded: Tensor, on_progress: OnTile) -> Tensor:
        height, width = encoded.shape[-2:]
        tile, multiple = self._tile_side(height * width), self.multiple
        min_side = self.network.side or 0
        padded = pad(encoded, (0, max(min_side - width, 0), 0, max(min_side - height, 0)), mode="replicate")
        tiles = count_tiles(padded.shape[-2:], tile=tile, overlap=OVERLAP, multiple=multiple)
        on_progress(0, tiles)

        def correct_and_report(part: Tensor) -> Tensor:
            correction = correct(part)
            on_progress(1, tiles)
            return correction

        correction = tiled_inference(
            correct_and_report, padded, tile=tile, overlap=OVERLAP, multiple=multiple
        )
        return correction[..., : height * self.scale, : width * self.scale]

    def _tile_side(self, pixels: int) -> int:
        """Largest side of a tile for an image of `pixels`."""
        if self.network.side is not None:
            return self.network.side
        if self.tile is None and pixels > SMALL_SIDE**2:
            per_pixel = bytes_per_pixel(self.network.module, channels=self.network.channels)
            self.tile = max_tile_side(per_pixel, self.device, multiple=self.multiple)
        return self.tile or pixels + self.multiple


def linear_gain(encoded: Tensor, correction: Tensor) -> Tensor:
    """The linear difference that a correction of sRGB-encoded values makes; exactly 0 where that is 0."""
    gain = to_linear((encoded + correction).clamp(0, 1), SRGB) - to_linear(encoded, SRGB)
    return gain.masked_fill(correction == 0, 0)


def load_image_restorer(
    path: Path,
    *,
    device: str | torch.device = "auto",
    precision: Precision = "auto",
    tile: int | None = None,
    backend: BackendName = "auto",
) -> ImageRestorer:
    """The restorer for a checkpoint.

    Args:
        path: A checkpoint as its authors published it (.pth, .pt, .ckpt, .safetensors).
        device: Where to compute: auto, cpu, cuda, cuda:1. Images may lie anywhere.
        precision: Number format of the network, see `build_backends`.
        tile: Largest side of a tile in pixels; None: as large as free memory allows.
        backend: See `build_backends`.

    Raises:
        UnreadableMedia: The file is missing, damaged, unsafe to open, or of an unknown network.
        FreezeframeError: No such device, backend or format, or an optional package is missing.
    """
    network = read_network(path)
    return build_image_restorer(network, device=device, precision=precision, tile=tile, backend=backend)


def load_restorer(
    path: Path,
    *,
    device: str | torch.device = "auto",
    precision: Precision = "auto",
    window: int | None = None,
    backend: BackendName = "auto",
) -> ImageRestorer:
    """The restorer for a checkpoint, from RGB to RGB of the same size; the caller cuts the tiles.

    Args:
        path: See `load_image_restorer`.
        device: See `load_image_restorer`.
        precision: See `load_image_restorer`.
        window: Side in pixels of the pooling window of a NAFNet, see `nafnet.NAFNet`; None pools over each
            tile.
        backend: See `load_image_restorer`.

    Raises:
        UnreadableMedia: The file is missing, damaged, unsafe to open, of an unknown network, or of one for
            greyscale images, for upscaling, or for one image size.
        FreezeframeError: No such device, backend or format, or an optional package is missing.
    """
    network = read_network(path, pool_window=window)
    _check_same_size(network, path=path)
    return build_image_restorer(network, device=device, precision=precision, backend=backend)


def build_image_restorer(  # noqa: PLR0913  # where and how to run
    network: Network,
    *,
    device: str | torch.device = "auto",
    precision: Precision = "auto",
    tile: int | None = None,
    backend: BackendName = "auto",
    autotune: AutotuneConfig = RECOMMENDED,
) -> ImageRestorer:
    """The restorer for `network`, whose weights are moved to `device`; see `load_image_restorer`."""
    torch_device = find_device(device)
    network.module.to(torch_device)
    backends = build_backends(
        restorer_model(network), device=torch_device, precision=precision, backend=backend, config=autotune
    )
    if tile is not None:
        tile = max(tile // network.multiple, 1) * network.multiple
    return ImageRestorer(network=network, device=torch_device, backends=backends, tile=tile)


def _is_grey(image: Tensor) -> bool:
    return torch.equal(image[:, 0], image[:, 1]) and torch.equal(image[:, 0], image[:, 2])


def _check_same_size(network: Network, *, path: Path) -> None:
    if (network.channels, network.scale) != (3, 1) or network.side is not None:
        kind = "greyscale" if network.channels == 1 else "RGB"
        size = "one size only" if network.side else f"scale {network.scale}"
        raise UnreadableMedia(
            f"{path}: this {network.title} restores {kind} images at {size}; name a restorer of RGB images at"
            " scale 1, or use freezeframe restore"
        )
