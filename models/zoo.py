"""Other people's restoration networks, read with spandrel where the user has installed it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.errors import FreezeframeError, UnreadableMedia
from .restorer import NetworkRestorer


def load_foreign(state: Mapping[str, Tensor], *, path: Path, device: torch.device) -> NetworkRestorer:
    """The restorer that spandrel recognises by its keys, in fp32: several of its networks overflow in fp16.

    Raises:
        FreezeframeError: spandrel is not installed, or does not run beside this torch.
        UnreadableMedia: No network that spandrel knows, or one that does not restore RGB pictures in place.
    """
    descriptor = _describe(_import_spandrel(path), state, path)
    if (descriptor.scale, descriptor.input_channels, descriptor.output_channels) != (1, 3, 3):
        raise UnreadableMedia(
            f"{path}: {descriptor.architecture.name} here turns {descriptor.input_channels} channels into"
            f" {descriptor.output_channels} at scale {descriptor.scale}; name a restorer of RGB at scale 1"
        )
    model = descriptor.to(device).eval()

    def correct(codes: Tensor) -> Tensor:
        change: Tensor = model(codes) - codes
        return change

    return NetworkRestorer(corrections=(correct,), device=device)


def _import_spandrel(path: Path) -> Any:
    try:
        return importlib.import_module("spandrel")
    # spandrel imports torchvision, which raises RuntimeError beside a torch that it was not built for.
    except (ImportError, RuntimeError) as error:
        raise FreezeframeError(
            f"{path}: is no NAFNet; other networks are read by spandrel, which cannot be imported"
            f" ({str(error).splitlines()[0]}); run: pip install spandrel"
        ) from error


def _describe(spandrel: Any, state: Mapping[str, Tensor], path: Path) -> Any:
    try:
        return spandrel.ModelLoader(device="cpu").load_from_state_dict(dict(state))
    except Exception as error:
        # Forty-two detectors and loaders of other authors fail in forty-two ways.
        raise UnreadableMedia(
            f"{path}: holds weights of no network that freezeframe or spandrel knows; use NAFNet's"
        ) from error
