"""The network run the fastest way that this machine has and that answers as plain fp32 does.

A frame goes through in one piece or in a few equal tiles, so that what is compiled for a shape is compiled
once. Whatever overflows in half precision is computed again in fp32.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from freezeframe.data.errors import FreezeframeError, MissingExtra
from freezeframe.models.deblur.fusion_net import MULTIPLE
from freezeframe.models.imageops.tiling import filled, in_even_tiles
from freezeframe.models.registry.bundled import Network

from . import openvino as engine_openvino
from .autotune import Engine, fastest, key_of
from .device import Precision, find_device, formats, number_format

logger = logging.getLogger(__name__)

Way = Literal["auto", "torch", "compile", "openvino"]

TILE = 1056  # a tile has no more pixels than a square of this side: 720p is one, 1080p two
OVERLAP = 96  # pixels that tiles share; the outer quarters are left out


def engine(
    network: nn.Module,
    *,
    device: str | torch.device = "auto",
    precision: Precision = "auto",
    way: Way = "auto",
    tile: int = TILE,
) -> Network:
    """`network` ready to run: [1, 16, H, W] evidence of any size to [1, 3, H, W] on the same device.

    Args:
        network: The weights, copied: training them on changes nothing here.
        device: Where to compute: auto, cpu, cuda, cuda:1.
        precision: Format of its inner numbers. `auto` is whatever is fastest and agrees with fp32.
        way: `auto` measures torch, and OpenVINO where it is installed, once per machine (`engine_choice`).
            `compile` is torch.compile, which takes a C++ compiler and half a minute per size of frame.
        tile: A tile has no more pixels than a square of this side. Memory grows with it.

    Raises:
        FreezeframeError: No such device or format, or the way asked for cannot be had here.
    """
    place = find_device(device)
    placed = copy.deepcopy(network).eval().requires_grad_(False)
    placed = placed.to(place, memory_format=torch.channels_last)  # type: ignore[call-overload]
    exact = in_torch(placed, device=place, dtype=torch.float32)
    found = engines(placed, device=place, precision=precision, way=way)
    quick = fastest(found, exact, key=key_of(placed, place, found)) if len(found) > 1 else found.popitem()[1]
    sure = redone(quick, exact)

    def run(evidence: Tensor) -> Tensor:
        height, width = evidence.shape[-2:]
        whole = filled(evidence, MULTIPLE)
        return in_even_tiles(sure, whole, tile=tile, overlap=OVERLAP, multiple=MULTIPLE)[..., :height, :width]

    return run


def engines(
    network: nn.Module, *, device: torch.device, precision: Precision, way: Way = "auto"
) -> dict[str, Engine]:
    """Every way asked for that can be had, by a name such as `torch bf16`. Sides in multiples of 8 only.

    Raises:
        FreezeframeError: The way asked for by name cannot be had here.
    """
    usable = device.type == "cpu" and engine_openvino.installed()
    if way == "openvino":
        _require_openvino(device)
    named = _formats(device, precision)
    found: dict[str, Engine] = {}
    if way in {"auto", "torch"}:
        found |= {f"torch {name}": in_torch(network, device=device, dtype=named[name]) for name in named}
    if way == "openvino" or (way == "auto" and usable):
        found |= {f"openvino {name}": engine_openvino.in_openvino(network, named[name]) for name in named}
    if way == "compile":
        dtype = number_format(device, precision)
        found["compile"] = in_torch(compiled(network), device=device, dtype=dtype)
    return found


def in_torch(network: Engine, *, device: torch.device, dtype: torch.dtype) -> Engine:
    """Convolutions at `dtype`, the arithmetic around them in fp32: gates and differences keep their digits.

    Half precision on the CPU is faster than fp32 only with the channels of a pixel side by side.
    """

    def run(evidence: Tensor) -> Tensor:
        given = evidence.to(device, torch.float32, memory_format=torch.channels_last)
        with torch.no_grad(), torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            change: Tensor = network(given).float()
        return change.to(evidence.device)

    return run


def redone(quick: Engine, exact: Engine) -> Engine:
    """`quick`, and `exact` where it answers NaN or infinity; no change at all where both do."""

    def run(evidence: Tensor) -> Tensor:
        for answer in (quick, exact):
            change = answer(evidence)
            if change.sum().isfinite():  # only where all of it is
                return change
        logger.warning("the network's answer was not a number; a part of a frame passed as it was")
        return torch.zeros_like(change)

    return run


def _formats(device: torch.device, precision: Precision) -> Mapping[str, torch.dtype]:
    return formats(device) if precision == "auto" else {precision: number_format(device, precision)}


def _require_openvino(device: torch.device) -> None:
    if device.type != "cpu":
        raise FreezeframeError(
            f"engine openvino computes on the CPU, not on {device}; use auto or device cpu"
        )
    if not engine_openvino.installed():
        raise MissingExtra("OpenVINO", "openvino", "engine openvino")


def compiled(network: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same by torch.compile, for each shape anew; says what to do where it cannot be had."""
    quick = torch.compile(network, dynamic=False)

    def run(given: Tensor, **told: Tensor) -> Tensor:
        try:
            change: Tensor = quick(given, **told)
        except torch._dynamo.exc.BackendCompilerFailed as error:
            reason = str(error).strip().splitlines()[0]
            raise FreezeframeError(
                f"engine compile: {reason}; install a C++ compiler or use engine auto"
            ) from error
        return change

    return run
