"""The weights bundled with the package, and their model cards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from freezeframe.data.errors import FreezeframeError, UnreadableMedia
from freezeframe.models.deblur import blur_field_net, fusion_net, psf_estimator, refiner, shutter_net
from freezeframe.models.store.state_dict import misfit, read_state
from freezeframe.models.store.weights_cache import BUNDLED

WEIGHTS = BUNDLED / "fusion.safetensors"
CARD = WEIGHTS.with_suffix(".json")
REFINER = WEIGHTS.with_name("refiner.safetensors")
PSF_ESTIMATOR = WEIGHTS.with_name("psf_estimator.safetensors")
SHUTTER = WEIGHTS.with_name("shutter.safetensors")
BLUR_FIELD = WEIGHTS.with_name("blur_field.safetensors")

FusionInference = Callable[[Tensor], Tensor]
"""[1, 16, H, W] network input to [1, 3, H, W]: the correction of the sRGB-encoded deconvolved frame."""


def read_network(path: Path) -> fusion_net.FusionNet:
    """The fusion network in a file, in float32 on the CPU.

    Raises:
        UnreadableMedia: Missing, damaged, or weights of another network.
    """
    state = read_state(path)
    if not fusion_net.matches(state):
        raise UnreadableMedia(
            f"{path}: holds no weights of the fusion network; name a file of `freezeframe train fusion`"
        )
    try:
        return fusion_net.load(state)
    except (RuntimeError, KeyError, ValueError) as error:
        raise UnreadableMedia(
            f"{path}: the weights do not fit ({misfit(error)}); train them again"
        ) from error


def read_refiner(path: Path = REFINER) -> refiner.Refiner:
    """The bundled restorer of single images, in float32 on the CPU.

    Raises:
        UnreadableMedia: Missing, damaged, or weights of another network.
    """
    state = read_state(path)
    if not refiner.matches(state):
        raise UnreadableMedia(
            f"{path}: holds no weights of the refiner; name a file of `freezeframe train restorer`"
        )
    return refiner.load(state)


def read_psf_estimator(path: Path = PSF_ESTIMATOR) -> psf_estimator.PsfEstimator:
    """The bundled estimator of the blur of a single image, in float32 on the CPU.

    Raises:
        UnreadableMedia: Missing, damaged, or weights of another network.
    """
    estimator = psf_estimator.PsfEstimator()
    _load_weights(estimator, path, "the PSF estimator; name a file of `freezeframe train psf`")
    return estimator


def read_shutter_net(path: Path = SHUTTER) -> shutter_net.ShutterNet:
    """The bundled shutter network, in float32 on the CPU.

    Raises:
        UnreadableMedia: Missing, damaged, or weights of another network.
    """
    net = shutter_net.ShutterNet()
    _load_weights(net, path, "the shutter network; name a file of `freezeframe train shutter`")
    return net


def read_blur_field_net(path: Path = BLUR_FIELD) -> blur_field_net.BlurFieldNet:
    """The bundled network of the blur field of a photograph, in float32 on the CPU.

    Raises:
        UnreadableMedia: Missing, damaged, or weights of another network.
    """
    net = blur_field_net.BlurFieldNet()
    _load_weights(net, path, "the blur field network; name a file of `freezeframe train blur-field`")
    return net


def _load_weights(network: nn.Module, path: Path, name: str) -> None:
    try:
        network.load_state_dict({key: value.float() for key, value in read_state(path).items()})
    except RuntimeError as error:
        raise UnreadableMedia(f"{path}: holds no weights of {name}") from error
    network.eval().requires_grad_(False)


def card(weights: Path = WEIGHTS) -> dict[str, Any]:
    """The model card: data, licence, hours of training, figures, and the SHA-256 of the weights."""
    content: dict[str, Any] = json.loads(weights.with_suffix(".json").read_text())
    return content


def verify(weights: Path = WEIGHTS) -> None:
    """Raise FreezeframeError if the SHA-256 of bundled weights differs from the model card."""
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    if digest != card(weights)["sha256"]:
        raise FreezeframeError(
            f"{weights}: its SHA-256 differs from its model card; install the package again"
        )
