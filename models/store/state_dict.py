"""State dicts from checkpoint files of any origin.

A checkpoint is untrusted input: pickles are read without running code (`weights_only`), and the storage of a
tensor must be as large as its shape.
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

# Keys under which training code stores the weights. Authors publish results of the moving average (EMA).
CONTAINERS = ("params_ema", "params", "state_dict", "model")
PREFIXES = ("module.", "net.")  # of DataParallel and of training wrappers


def read_state(path: Path) -> dict[str, Tensor]:
    """The weights in a file, on the CPU, by the names of the network's parameters.

    Args:
        path: A safetensors file, or a file of `torch.save`: a state dict, alone or in one of `CONTAINERS`.

    Raises:
        UnreadableMedia: No file, damaged, not a checkpoint, a checkpoint that contains code, or weights that
            are NaN or infinity.
    """
    if not path.is_file():
        raise UnreadableMedia(f"{path}: there is no such checkpoint file; check the spelling")
    state = unwrap(_read(path))
    if not state:
        raise UnreadableMedia(f"{path}: holds no weights; name a file with the network's state dict")
    if not all(map(_is_plain, state.values())):
        raise UnreadableMedia(f"{path}: its tensors are incomplete; download it again from its authors")
    if broken := next((name for name, value in state.items() if not _is_finite(value)), None):
        raise UnreadableMedia(
            f"{path}: its weights {broken} contain NaN or infinity; download it again, or use a checkpoint"
            " from earlier in its training"
        )
    return state


def unwrap(content: Any) -> dict[str, Tensor]:
    """The innermost state dict of a checkpoint's content, without prefixes; empty if there is none."""
    while isinstance(content, Mapping):
        inner = next((content[key] for key in CONTAINERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping):
        return {}
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    return _without_prefixes(tensors)


def count_keys(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many different names follow `prefix`: the length of a module list."""
    return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})


def misfit(error: Exception) -> str:
    """The reason of a failed `load_state_dict`: torch puts the first misfit on the second line."""
    return str(error).splitlines()[:2][-1].strip()


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
            warnings.simplefilter("ignore")  # the error below says the same
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        # Reading a damaged pickle raises errors of any type.
        raise UnreadableMedia(f"{path}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnpicklingError):
        return "is not a weights file or contains code, and was not read; use a .safetensors file"
    return "is no checkpoint, or a damaged one; download it again and compare its size with the original"


def _is_plain(value: Tensor) -> bool:
    """Whether the storage holds every element: not sparse, quantised, or a large view of few elements."""
    if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def _is_finite(value: Tensor) -> bool:
    # Attention masks contain minus infinity.
    return not value.is_floating_point() or bool((value.float() < float("inf")).all())
