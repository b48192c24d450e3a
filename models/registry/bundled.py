"""The weights that come with the package, and their card."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from freezeframe.data.errors import FreezeframeError, UnreadableMedia
from freezeframe.models.deblur import fusion_net as multiframe
from freezeframe.models.deblur import psf_estimator as blind
from freezeframe.models.deblur import refiner
from freezeframe.models.deblur import shutter_net as shutter
from freezeframe.models.store.state_dict import read_state
from freezeframe.models.store.weights_cache import BUNDLED

WEIGHTS = BUNDLED / "multiframe.safetensors"
CARD = WEIGHTS.with_suffix(".json")
REFINER = WEIGHTS.with_name("refiner.safetensors")
PSF_ESTIMATOR = WEIGHTS.with_name("blur.safetensors")
SHUTTER = WEIGHTS.with_name("shutter.safetensors")

FusionInference = Callable[[Tensor], Tensor]
"""[1, 16, H, W] evidence to [1, 3, H, W]: what to add to the codes of the deconvolved frame."""


def read_network(path: Path) -> multiframe.FusionNet:
    """The network in a file, in float32 on the CPU.

    Raises:
        UnreadableMedia: Missing, damaged, or the weights of something else.
    """
    state = read_state(path)
    if not multiframe.matches(state):
        raise UnreadableMedia(
            f"{path}: holds no weights of the multi-frame network; name a file that `freezeframe train` wrote"
        )
    try:
        return multiframe.load(state)
    except (RuntimeError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[:2][-1].strip()
        raise UnreadableMedia(f"{path}: the weights do not fit ({reason}); train them again") from error


def read_refiner(path: Path = REFINER) -> refiner.Refiner:
    """The restorer of single pictures that comes with the package, in float32 on the CPU.

    Raises:
        UnreadableMedia: Missing, damaged, or the weights of something else.
    """
    state = read_state(path)
    if not refiner.matches(state):
        raise UnreadableMedia(
            f"{path}: holds no weights of the refiner; name a file of `freezeframe train restorer`"
        )
    return refiner.load(state)


def read_psf_estimator(path: Path = PSF_ESTIMATOR) -> blind.PsfEstimator:
    """What tells how a picture was blurred, in float32 on the CPU.

    Raises:
        UnreadableMedia: Missing, damaged, or the weights of something else.
    """
    estimator = blind.PsfEstimator()
    _load_weights(estimator, path, "the estimator of blur; name a file of `freezeframe train blur`")
    return estimator


def read_shutter_net(path: Path = SHUTTER) -> shutter.ShutterNet:
    """What tells how long a shutter stood open, in float32 on the CPU.

    Raises:
        UnreadableMedia: Missing, damaged, or the weights of something else.
    """
    net = shutter.ShutterNet()
    _load_weights(net, path, "the sense for shutters; name a file of `freezeframe train shutter`")
    return net


def _load_weights(network: nn.Module, path: Path, name: str) -> None:
    try:
        network.load_state_dict({key: value.float() for key, value in read_state(path).items()})
    except RuntimeError as error:
        raise UnreadableMedia(f"{path}: holds no weights of {name}") from error
    network.eval().requires_grad_(False)


def card(weights: Path = WEIGHTS) -> dict[str, Any]:
    """What shipped weights are: data, licence, hours, figures, and the SHA-256 of their file."""
    content: dict[str, Any] = json.loads(weights.with_suffix(".json").read_text())
    return content


def verify(weights: Path = WEIGHTS) -> None:
    """Raise FreezeframeError where shipped weights are not those of their card."""
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    if digest != card(weights)["sha256"]:
        raise FreezeframeError(f"{weights}: is not what its card describes; install the package again")
