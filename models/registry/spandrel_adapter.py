"""Further restoration networks, read by spandrel if it is installed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from freezeframe.data.errors import FreezeframeError, UnreadableMedia


def read_with_spandrel(state: Mapping[str, Tensor], *, path: Path) -> Any:
    """Spandrel's ImageModelDescriptor of these weights, on the CPU and in fp32.

    Raises:
        FreezeframeError: spandrel is not installed, or does not run with this torch.
        UnreadableMedia: No network that spandrel knows, or one that needs more than an image.
    """
    spandrel = _import_spandrel(path)
    descriptor = _describe(spandrel, state, path)
    if not isinstance(descriptor, spandrel.ImageModelDescriptor):
        raise UnreadableMedia(
            f"{path}: {descriptor.architecture.name} needs more than an image (a mask); name a restorer"
        )
    return descriptor.eval()


def _import_spandrel(path: Path) -> Any:
    try:
        return importlib.import_module("spandrel")
    # spandrel imports torchvision, which raises RuntimeError with a torch that it was not built for.
    except (ImportError, RuntimeError) as error:
        raise FreezeframeError(
            f"{path}: is of no network that freezeframe reads itself; spandrel, which reads others,"
            f" cannot be imported ({str(error).splitlines()[0]}); run: pip install spandrel torch=="
            f"{torch.__version__.split('+')[0]} torchvision --index-url {_index()}"
            " --extra-index-url https://pypi.org/simple (torch and torchvision must come from one index)"
        ) from error


def _index() -> str:
    """The package index with torchvision for the installed torch, whose version names its build."""
    build = torch.__version__.partition("+")[2]
    return f"https://download.pytorch.org/whl/{build}" if build else "https://pypi.org/simple"


def _describe(spandrel: Any, state: Mapping[str, Tensor], path: Path) -> Any:
    try:
        return spandrel.ModelLoader(device="cpu").load_from_state_dict(dict(state))
    except Exception as error:
        # spandrel's detectors and loaders, some forty, raise errors of any type.
        raise UnreadableMedia(
            f"{path}: holds weights of no network that freezeframe or spandrel knows; use those of NAFNet"
        ) from error
