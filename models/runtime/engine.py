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
from freezeframe.models.imageops.tiling import pad_replicate, uniform_tiled_inference
from freezeframe.models.registry.bundled import FusionInference

from . import openvino as engine_openvino
from .autotune import Backend, autotune_on_first_call, cache_key
from .device import Precision, find_device, formats, number_format

logger = logging.getLogger(__name__)

BackendName = Literal["auto", "torch", "compile", "openvino"]

TILE = 1056  # a tile has no more pixels than a square of this side: 720p is one, 1080p two
OVERLAP = 96  # pixels that tiles share; the outer quarters are left out


def build_inference(
    network: nn.Module,
    *,
    device: str | torch.device = "auto",
    precision: Precision = "auto",
    backend: BackendName = "auto",
    tile: int = TILE,
) -> FusionInference:
    """`network` ready to run: [1, 16, H, W] evidence of any size to [1, 3, H, W] on the same device.

    Args:
        network: The weights, copied: training them on changes nothing here.
        device: Where to compute: auto, cpu, cuda, cuda:1.
        precision: Format of its inner numbers. `auto` is whatever is fastest and agrees with fp32.
        backend: `auto` measures torch, and OpenVINO where it is installed, once per machine (`engine_choice`).
            `compile` is torch.compile, which takes a C++ compiler and half a minute per size of frame.
        tile: A tile has no more pixels than a square of this side. Memory grows with it.

    Raises:
        FreezeframeError: No such device or format, or the way asked for cannot be had here.
    """
    torch_device = find_device(device)
    module = copy.deepcopy(network).eval().requires_grad_(False)
    module = module.to(torch_device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    exact = torch_backend(module, device=torch_device, dtype=torch.float32)
    backends = available_backends(module, device=torch_device, precision=precision, backend=backend)
    fast = (
        autotune_on_first_call(backends, exact, key=cache_key(module, torch_device, backends))
        if len(backends) > 1
        else backends.popitem()[1]
    )
    with_fallback = with_fp32_fallback(fast, exact)

    def run(network_input: Tensor) -> Tensor:
        height, width = network_input.shape[-2:]
        padded = pad_replicate(network_input, MULTIPLE)
        return uniform_tiled_inference(with_fallback, padded, tile=tile, overlap=OVERLAP, multiple=MULTIPLE)[
            ..., :height, :width
        ]

    return run


def available_backends(
    network: nn.Module, *, device: torch.device, precision: Precision, backend: BackendName = "auto"
) -> dict[str, Backend]:
    """Every way asked for that can be had, by a name such as `torch bf16`. Sides in multiples of 8 only.

    Raises:
        FreezeframeError: The way asked for by name cannot be had here.
    """
    openvino_usable = device.type == "cpu" and engine_openvino.installed()
    if backend == "openvino":
        _require_openvino(device)
    dtypes = _formats(device, precision)
    backends: dict[str, Backend] = {}
    if backend in {"auto", "torch"}:
        backends |= {
            f"torch {name}": torch_backend(network, device=device, dtype=dtypes[name]) for name in dtypes
        }
    if backend == "openvino" or (backend == "auto" and openvino_usable):
        backends |= {
            f"openvino {name}": engine_openvino.openvino_backend(network, dtypes[name]) for name in dtypes
        }
    if backend == "compile":
        dtype = number_format(device, precision)
        backends["compile"] = torch_backend(compile_network(network), device=device, dtype=dtype)
    return backends


def torch_backend(network: Backend, *, device: torch.device, dtype: torch.dtype) -> Backend:
    """Convolutions at `dtype`, the arithmetic around them in fp32: gates and differences keep their digits.

    Half precision on the CPU is faster than fp32 only with the channels of a pixel side by side.
    """

    def run(network_input: Tensor) -> Tensor:
        inputs = network_input.to(device, torch.float32, memory_format=torch.channels_last)
        with torch.no_grad(), torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            change: Tensor = network(inputs).float()
        return change.to(network_input.device)

    return run


def with_fp32_fallback(fast: Backend, exact: Backend) -> Backend:
    """`fast`, and `exact` where it answers NaN or infinity; no change at all where both do."""

    def run(network_input: Tensor) -> Tensor:
        for compute in (fast, exact):
            change = compute(network_input)
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


def compile_network(network: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same by torch.compile, for each shape anew; says what to do where it cannot be had."""
    fast = torch.compile(network, dynamic=False)

    def run(inputs: Tensor, **kwargs: Tensor) -> Tensor:
        try:
            change: Tensor = fast(inputs, **kwargs)
        except torch._dynamo.exc.BackendCompilerFailed as error:
            reason = str(error).strip().splitlines()[0]
            raise FreezeframeError(
                f"engine compile: {reason}; install a C++ compiler or use engine auto"
            ) from error
        return change

    return run
