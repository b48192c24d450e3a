"""The file that stores which backend was the fastest, per machine and network.

It is neither read nor written where backend and precision are both given: there is nothing to select.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from freezeframe.data.errors import FreezeframeError
from freezeframe.data.media.files.cache_dir import cache_dir
from freezeframe.data.media.files.publish import write_atomic

logger = logging.getLogger(__name__)


def cache_key(network: nn.Module, device: torch.device, names: Iterable[str]) -> str:
    """What a timing depends on: processor, threads, versions, shapes of the weights, candidates."""
    shapes = [(name, tuple(value.shape)) for name, value in network.state_dict().items()]
    signature = hashlib.sha256(repr(shapes).encode()).hexdigest()[:12]
    versions = [f"{name} {_version(name)}" for name in ("freezeframe", "torch", "openvino")]
    return " | ".join([_processor(device), *versions, signature, *names])


def cache_file() -> Path | None:
    """`backends.json` in the user's cache folder; None for a user without a home folder."""
    folder = cache_dir()
    return None if folder is None else folder / "backends.json"


def load_cache() -> dict[str, Any]:
    """All stored timings by `cache_key`; empty if there is no readable file."""
    path = cache_file()
    with contextlib.suppress(OSError, ValueError):
        entries = json.loads(path.read_text()) if path else {}
        return entries if isinstance(entries, dict) else {}
    return {}


def save_cache(entries: Mapping[str, Any]) -> None:
    """Write all timings; if that fails, the next run measures again."""
    path = cache_file()
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic((json.dumps(entries, indent=2) + "\n").encode(), path)
    except (OSError, FreezeframeError) as error:
        logger.info("the timing cannot be stored: %s", error)


def _version(package: str) -> str:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return "missing"


def _processor(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(
            (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model
        )
    instructions = torch.backends.cpu.get_cpu_capability()
    return f"{model} {instructions}, {torch.get_num_threads()} threads"
