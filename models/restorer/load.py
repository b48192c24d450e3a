"""From a checkpoint file to a restorer: the network is recognised by the names of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from freezeframe.data.errors import UnreadableMedia
from freezeframe.models.imageops.tiling import Restorer
from freezeframe.models.nets import nafnet
from freezeframe.models.registry.architectures import Kind, Network, fitted, foreign, recognise
from freezeframe.models.runtime.backends import ways_of
from freezeframe.models.runtime.device import Precision, find_device
from freezeframe.models.runtime.engine import Way
from freezeframe.models.store.state_dict import read_state

from .restorer import NetworkRestorer

__all__ = ["Precision", "Restorer", "load_restorer"]


def load_restorer(
    path: Path,
    *,
    device: str | torch.device = "auto",
    precision: Precision = "auto",
    window: int | None = None,
    way: Way = "auto",
) -> NetworkRestorer:
    """The restorer whose weights a file holds, for tiles that its caller cuts.

    Args:
        path: A checkpoint as its authors published it (.pth, .pt, .ckpt, .safetensors).
        device: Where the network computes: auto, cpu, cuda, cuda:1. Pictures may lie anywhere.
        precision: Format of its inner numbers. What overflows is computed again in fp32; `auto` is whatever
            is fastest and agrees with fp32.
        window: Pixels over which a NAFNet pools, see `nafnet.NAFNet`; None pools over each tile.
        way: See `ways.ways_of`.

    Raises:
        UnreadableMedia: The file is missing, damaged, unsafe to open, of an unknown network, or of one that
            does not restore RGB pictures in their own size (see `whole.load_whole`).
        FreezeframeError: No such device or format, or an optional package is needed.
    """
    place = find_device(device)
    state = read_state(path)
    kind = recognise(state)
    network = foreign(state, path) if kind is None else fitted(_pooling(kind, window), state, path=path)
    _check_in_place(network, path=path)
    network.module.to(place)
    ready = ways_of(network, device=place, precision=precision, way=way)
    return NetworkRestorer(corrections=ready, device=place, multiple=network.multiple)


def _pooling(kind: Kind, window: int | None) -> Kind:
    """The kind; NAFNet's with the window over which its caller wants it to pool."""

    def read(state: Mapping[str, Tensor]) -> Network:
        module = nafnet.load(state, window=window)
        return Network(title=kind.title, module=module, multiple=module.multiple, fp16=True)

    return replace(kind, read=read) if kind.detect is nafnet.detect else kind


def _check_in_place(network: Network, *, path: Path) -> None:
    if (network.channels, network.scale) != (3, 1) or network.side is not None:
        what = "grey" if network.channels == 1 else "RGB"
        size = "one size" if network.side else f"{network.scale} times the size"
        raise UnreadableMedia(
            f"{path}: this {network.title} turns {what} pictures into {size} of them; name a restorer of RGB"
            " in its own size, or give it to freezeframe restore"
        )
