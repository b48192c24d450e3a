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
from freezeframe.models.registry.architectures import Architecture, Network, build, identify, load_foreign
from freezeframe.models.runtime.backends import build_backends
from freezeframe.models.runtime.device import Precision, find_device
from freezeframe.models.runtime.engine import BackendName
from freezeframe.models.store.state_dict import read_state

from .restorer import NetworkRestorer

__all__ = ["Precision", "Restorer", "load_restorer"]


def load_restorer(
    path: Path,
    *,
    device: str | torch.device = "auto",
    precision: Precision = "auto",
    window: int | None = None,
    backend: BackendName = "auto",
) -> NetworkRestorer:
    """The restorer whose weights a file holds, for tiles that its caller cuts.

    Args:
        path: A checkpoint as its authors published it (.pth, .pt, .ckpt, .safetensors).
        device: Where the network computes: auto, cpu, cuda, cuda:1. Pictures may lie anywhere.
        precision: Format of its inner numbers. What overflows is computed again in fp32; `auto` is whatever
            is fastest and agrees with fp32.
        window: Pixels over which a NAFNet pools, see `nafnet.NAFNet`; None pools over each tile.
        backend: See `ways.build_backends`.

    Raises:
        UnreadableMedia: The file is missing, damaged, unsafe to open, of an unknown network, or of one that
            does not restore RGB pictures in their own size (see `whole.load_whole`).
        FreezeframeError: No such device or format, or an optional package is needed.
    """
    torch_device = find_device(device)
    state = read_state(path)
    architecture = identify(state)
    network = (
        load_foreign(state, path)
        if architecture is None
        else build(_with_pool_window(architecture, window), state, path=path)
    )
    _check_same_size(network, path=path)
    network.module.to(torch_device)
    backends = build_backends(network, device=torch_device, precision=precision, backend=backend)
    return NetworkRestorer(corrections=backends, device=torch_device, multiple=network.multiple)


def _with_pool_window(architecture: Architecture, window: int | None) -> Architecture:
    """The kind; NAFNet's with the window over which its caller wants it to pool."""

    def read(state: Mapping[str, Tensor]) -> Network:
        module = nafnet.load(state, window=window)
        return Network(title=architecture.title, module=module, multiple=module.multiple, fp16=True)

    return replace(architecture, read=read) if architecture.matches is nafnet.matches else architecture


def _check_same_size(network: Network, *, path: Path) -> None:
    if (network.channels, network.scale) != (3, 1) or network.side is not None:
        what = "grey" if network.channels == 1 else "RGB"
        size = "one size" if network.side else f"{network.scale} times the size"
        raise UnreadableMedia(
            f"{path}: this {network.title} turns {what} pictures into {size} of them; name a restorer of RGB"
            " in its own size, or give it to freezeframe restore"
        )
