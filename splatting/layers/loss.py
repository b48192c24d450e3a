"""The loss of a layer: how badly it explains what was recorded when it is re-blurred, and priors.

`set_gradients` computes the gradients by compiled kernels where it can; `layer_loss` is the definition.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from freezeframe.data.blur.operator import has_numba
from freezeframe.splatting.optim.losses import sqrt_encode, total_variation

from .layer import Crops, Layer, over_background

SetGradients = Callable[[Layer, Sequence[int], Tensor], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """Weights of the priors beside the error of the re-blurred layer in square roots of light."""

    eps: float = 1e-3  # difference of square roots of light below which the loss is smooth
    colour_tv: float = 0.003  # total variation of the square roots of light
    chroma_tv: float = 0.006  # of the differences of red and blue from green: textures hardly change colour
    alpha_tv: float = 0.001
    binary: float = 0.002  # alpha is 0 or 1 in most texels
    deformation: float = 0.02  # squared deformation, in units of 4 pixels
    deformation_change: float = 0.05  # squared change of it from frame to frame, in units of 2 pixels


def layer_loss(
    layer: Layer, crops: Crops, frames: Sequence[int], time_offsets: Tensor, config: LossConfig
) -> Tensor:
    """Charbonnier loss of the re-blurred frames per texel, and priors.

    Args:
        layer: At the resolution of `crops`.
        crops: Frames, background and weights.
        frames: Numbers of the crops that are compared.
        time_offsets: Instants of an exposure as fractions of it, [K].
        config: Weights.
    """
    reblurred = over_background(layer.exposures(crops, frames, time_offsets), crops.background[list(frames)])
    errors = sqrt_encode(reblurred) - sqrt_encode(crops.images[list(frames)])
    charbonnier = (errors.square() + config.eps**2).sqrt().mean(1) * crops.weight[list(frames)]
    texels = layer.texture_logits[0].numel()
    return charbonnier.sum() / (len(frames) * texels) + _prior(layer, config)


def gradients_on(crops: Crops, config: LossConfig) -> SetGradients:
    """A function that sets the gradients of `layer_loss` on `crops` by the parameters of a layer."""
    if has_numba() and crops.images.is_cpu and crops.images.dtype == torch.float32:
        from .numba_loss import CompiledLoss

        return CompiledLoss.of(crops, config).set_gradients
    return lambda layer, frames, offsets: _set_by_torch(
        layer, layer_loss(layer, crops, frames, offsets, config)
    )


def _set_by_torch(layer: Layer, loss: Tensor) -> None:
    layer.zero_grad()
    torch.autograd.backward(loss)


def _prior(layer: Layer, config: LossConfig) -> Tensor:
    colour, alpha = layer.colour_and_alpha()
    deformation = layer.deformation
    prior = config.colour_tv * total_variation(colour) + config.alpha_tv * total_variation(alpha)
    prior = prior + config.chroma_tv * total_variation(colour[[0, 2]] - colour[1])
    prior = prior + config.binary * (alpha * (1 - alpha)).mean()
    prior = prior + config.deformation * (deformation / 4).square().mean()
    if len(deformation) > 1:
        prior = prior + config.deformation_change * (deformation.diff(dim=0) / 2).square().mean()
    return prior
