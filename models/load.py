"""From a checkpoint file to a restorer: the network is recognised by the names of its weights."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..data.errors import UnreadableMedia
from . import nafnet
from .checkpoint import read_state
from .device import Precision, find_device, number_format
from .restorer import NetworkRestorer, Restorer, corrections
from .zoo import load_foreign

__all__ = ["Precision", "Restorer", "load_restorer"]


def load_restorer(
    path: Path,
    *,
    device: str | torch.device = "auto",
    precision: Precision = "auto",
    window: int | None = None,
) -> NetworkRestorer:
    """The restorer whose weights a file holds.

    Args:
        path: A checkpoint as its authors published it (.pth, .pt, .ckpt, .safetensors).
        device: Where the network computes: auto, cpu, cuda, cuda:1. Pictures may lie anywhere.
        precision: Format of its inner numbers. What overflows is computed again in fp32.
        window: Pixels over which a NAFNet pools, see `nafnet.NAFNet`; None pools over each tile.

    Raises:
        UnreadableMedia: The file is missing, damaged, unsafe to open, or of an unknown network.
        FreezeframeError: No such device, or an optional package is needed.
    """
    place = find_device(device)
    dtype = number_format(place, precision)
    state = read_state(path)
    if not nafnet.detect(state):
        return load_foreign(state, path=path, device=place)
    network = _fitting(state, path=path, window=window)
    return NetworkRestorer(corrections=corrections(network, device=place, dtype=dtype), device=place)


def _fitting(state: dict[str, Tensor], *, path: Path, window: int | None) -> nafnet.NAFNet:
    try:
        return nafnet.load(state, window=window)
    except (RuntimeError, ValueError) as error:
        # torch says first that something is wrong and then, a line each, what.
        reason = str(error).splitlines()[:2][-1].strip()
        raise UnreadableMedia(
            f"{path}: is a NAFNet whose weights do not fit ({reason}); download it again"
        ) from error
