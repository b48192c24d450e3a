"""Restorers of RGB images in their own size, for callers that cut the tiles."""

from __future__ import annotations

from pathlib import Path

import torch

from freezeframe.data.errors import UnreadableMedia
from freezeframe.models.imageops.tiling import Restorer
from freezeframe.models.registry.architectures import Network, read_network
from freezeframe.models.runtime.backends import BackendName
from freezeframe.models.runtime.device import Precision

from .image_restorer import ImageRestorer, build_image_restorer

__all__ = ["Precision", "Restorer", "load_restorer"]


def load_restorer(
    path: Path,
    *,
    device: str | torch.device = "auto",
    precision: Precision = "auto",
    window: int | None = None,
    backend: BackendName = "auto",
) -> ImageRestorer:
    """The restorer for a checkpoint of a network from RGB to RGB of the same size.

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


def _check_same_size(network: Network, *, path: Path) -> None:
    if (network.channels, network.scale) != (3, 1) or network.side is not None:
        kind = "greyscale" if network.channels == 1 else "RGB"
        size = "one size only" if network.side else f"scale {network.scale}"
        raise UnreadableMedia(
            f"{path}: this {network.title} restores {kind} images at {size}; name a restorer of RGB images at"
            " scale 1, or use freezeframe restore"
        )
