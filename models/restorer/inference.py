"""Restoration networks as inference backends run them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from freezeframe.models.deblur.refiner import INPUT_CHANNELS, MULTIPLE, Refiner
from freezeframe.models.imageops.tiling import pad_replicate
from freezeframe.models.imageops.upscale import upsample_encoded
from freezeframe.models.registry.architectures import Network
from freezeframe.models.runtime.autotune import synthetic_image
from freezeframe.models.runtime.backends import CorrectionFunction, InferenceModel
from freezeframe.models.runtime.openvino import openvino_function


def restorer_model(network: Network) -> InferenceModel:
    """`network` as backends run it: sRGB-encoded images to corrections of the upsampled images."""
    side = network.side
    return InferenceModel(
        title=network.title,
        module=network.module,
        correct=_correction_of(network),
        example=lambda size: synthetic_image(*((side, side) if side else size))[None, : network.channels],
        embed=_embedding_of(network),
        fp16=network.fp16,
        # OpenVINO speeds up dense convolutions. NAFNet gained nothing and took 18 s to compile; OpenVINO
        # cannot convert attention.
        openvino=partial(_refiner_by_openvino, network.module)
        if isinstance(network.module, Refiner)
        else None,
    )


def _correction_of(network: Network) -> CorrectionFunction:
    """The network's own `correction` if it has one: half precision then rounds the correction only."""
    correction: CorrectionFunction | None = getattr(network.module, "correction", None)
    return correction if correction and network.scale == 1 else partial(_residual, network.module)


def _residual(module: Callable[[Tensor], Tensor], encoded: Tensor) -> Tensor:
    """Output minus the input, upsampled in linear light to the size of the output."""
    output = module(encoded)
    return output - upsample_encoded(encoded, output.shape[-1] // encoded.shape[-1])


def _embedding_of(network: Network) -> Callable[[Tensor], Tensor] | None:
    if not network.has_global_context:
        return None
    return cast("Callable[[Tensor], Tensor]", network.module.degradation)


def _refiner_by_openvino(refiner: Refiner, dtype: torch.dtype) -> CorrectionFunction:
    """The learned layers by OpenVINO; torch computes their input."""
    learned_layers = openvino_function(_LearnedLayers(refiner), dtype, channels=INPUT_CHANNELS)

    def run(encoded: Tensor, *, degradation: Tensor | None = None) -> Tensor:
        height, width = encoded.shape[-2:]
        network_input = refiner.network_input(encoded, degradation=degradation)
        return learned_layers(pad_replicate(network_input, MULTIPLE))[..., :height, :width]

    return run


class _LearnedLayers(nn.Module):
    """The refiner without the preparation of its input."""

    def __init__(self, refiner: Refiner) -> None:
        super().__init__()
        self.refiner = refiner

    def forward(self, network_input: Tensor) -> Tensor:
        return self.refiner.predict_correction(network_input)
