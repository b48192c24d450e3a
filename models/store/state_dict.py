"""Weights in files of many makers: plain names to tensors, or one clear sentence.

A checkpoint is somebody else's file. Pickles are read without running anything in them (`weights_only`), and
a tensor must hold as many numbers as it claims to.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from freezeframe.data.errors import UnreadableMedia, is_out_of_memory

# Where training codes put the weights. A running average (EMA) is what their authors publish figures for.
CONTAINERS = ("params_ema", "params", "state_dict", "model")
PREFIXES = ("module.", "net.")  # left by DataParallel and by training wrappers


def read_state(path: Path) -> dict[str, Tensor]:
    """The weights in a file, on the CPU, under the names that the network itself gives them.

    Args:
        path: A safetensors file, or what `torch.save` wrote: a state dict, alone or in one of `CONTAINERS`.

    Raises:
        UnreadableMedia: No file, damaged, not a checkpoint, one that would run code when read, or one with
            weights that are no numbers.
    """
    if not path.is_file():
        raise UnreadableMedia(f"{path}: there is no such checkpoint file; check the spelling")
    state = unwrap(_read(path))
    if not state:
        raise UnreadableMedia(f"{path}: holds no weights; name a file with the network's state dict")
    if not all(map(_is_plain, state.values())):
        raise UnreadableMedia(
            f"{path}: claims weights that it does not hold; download it again from its maker"
        )
    if broken := next((name for name, value in state.items() if not _is_finite(value)), None):
        raise UnreadableMedia(
            f"{path}: its weights {broken} hold NaN or infinity, so it can restore nothing; download it"
            " again, or use a checkpoint from earlier in its training"
        )
    return state


def unwrap(content: Any) -> dict[str, Tensor]:
    """The innermost state dict of whatever a checkpoint holds, without prefixes; empty if there is none."""
    while isinstance(content, Mapping):
        inner = next((content[key] for key in CONTAINERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping):
        return {}
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    return _without_prefixes(tensors)


def _without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    shared = next((p for p in PREFIXES if state and all(key.startswith(p) for key in state)), None)
    if shared is None:
        return state
    return _without_prefixes({key[len(shared) :]: value for key, value in state.items()})


def _read(path: Path) -> Any:
    try:
        if path.suffix.lower() == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch warns of here ends in the sentence below
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        # The reader of a damaged pickle fails in whatever way its bytes lead to: no list of types is whole.
        raise UnreadableMedia(f"{path}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnpicklingError):
        return "is not a weights file, or holds code beside them, and was not opened; use a .safetensors file"
    return "is no checkpoint or a damaged one; download it again and compare its size with the original"


def _is_plain(value: Tensor) -> bool:
    """Whether every number is there: not sparse, not quantised, not a large shape over few numbers."""
    if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def _is_finite(value: Tensor) -> bool:
    # Masks of attention are minus infinity where nothing may be looked at.
    return not value.is_floating_point() or bool((value.float() < float("inf")).all())
