"""The fusion network at any frame size.

A frame is run as a whole or in a few tiles of one size, so that a backend compiles for one shape only.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from freezeframe.models.deblur.fusion_net import CHANNELS, MULTIPLE
from freezeframe.models.imageops.tiling import pad_replicate, uniform_tiled_inference

from .autotune import AutotuneConfig, build_backends, synthetic_input
from .backends import Backend, BackendName, InferenceModel, RunLog, first_finite
from .device import Precision, find_device
from .openvino import openvino_function

TILE = 1056  # a tile has at most the pixels of a square of this side: 720p is one tile, 1080p two
OVERLAP = 96  # pixels that tiles share; the outer quarters are discarded
AUTOTUNE = AutotuneConfig(
    min_pixels=0, large_pixels=320 * 320, small=(192, 256), large=(256, 448), compile_after=0
)


@dataclass(slots=True, kw_only=True)
class TiledFusion:
    """[1, 16, H, W] network input of any size to [1, 3, H, W] on the same device: the correction."""

    backends: Sequence[Backend]  # in the order in which they are tried
    tile: int  # a tile has at most the pixels of a square of this side
    log: RunLog = field(default_factory=RunLog)

    def __call__(self, network_input: Tensor, /) -> Tensor:
        height, width = network_input.shape[-2:]
        correction = uniform_tiled_inference(
            lambda tile: first_finite(self.backends, tile, self.log),
            pad_replicate(network_input, MULTIPLE),
            tile=self.tile,
            overlap=OVERLAP,
            multiple=MULTIPLE,
        )
        return correction[..., :height, :width]


def build_inference(
    network: nn.Module,
    *,
    device: str | torch.device = "auto",
    precision: Precision = "auto",
    backend: BackendName = "auto",
    tile: int = TILE,
) -> TiledFusion:
    """The fusion network `network`, ready to run.

    Args:
        network: The weights. They are copied: later training of `network` has no effect.
        device: Where to compute: auto, cpu, cuda, cuda:1.
        precision: See `build_backends`.
        backend: See `build_backends`.
        tile: A tile has at most the pixels of a square of this side. Memory grows with it.

    Raises:
        FreezeframeError: No such device, or the backend or the format does not run here.
    """
    torch_device = find_device(device)
    model = fusion_model(network, torch_device)
    backends = build_backends(
        model, device=torch_device, precision=precision, backend=backend, config=AUTOTUNE
    )
    return TiledFusion(backends=backends, tile=tile)


def fusion_model(network: nn.Module, device: torch.device) -> InferenceModel:
    """A copy of `network` on `device` as backends run it. Sides of its input are multiples of 8."""
    module = copy.deepcopy(network).eval().requires_grad_(False)
    module = module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return InferenceModel(
        title="fusion network",
        module=module,
        correct=module,
        example=lambda size: synthetic_input(*size),
        fp32_channels_last=True,
        openvino=partial(openvino_function, module, channels=CHANNELS),
    )
