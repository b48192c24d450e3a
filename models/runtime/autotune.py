"""Which way of running the network is the fastest here: measured once, then remembered."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import math
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from freezeframe.data.errors import FreezeframeError
from freezeframe.data.media.files.cache_dir import cache_dir
from freezeframe.data.media.files.publish import write_atomic
from freezeframe.models.deblur.fusion_net import build_network_input as as_network_input

logger = logging.getLogger(__name__)

Backend = Callable[[Tensor], Tensor]
"""[1, 16, H, W] evidence, sides in multiples of 8, to [1, 3, H, W] on the evidence's device."""

TOLERANCE = 2 / 255  # largest difference from fp32, in codes
TIMED_RUNS = 3  # timed runs after the first, which compiles; the best counts
BENCHMARK_SIZES = {"small": (192, 256), "large": (256, 448)}  # of the picture that is measured on. Pixels


def autotune_on_first_call(backends: Mapping[str, Backend], exact: Backend, *, key: str) -> Backend:
    """The fastest of `backends` that agrees with `exact`, asked for when the first picture comes."""
    selected: dict[str, Backend] = {}

    def run(network_input: Tensor) -> Tensor:
        size = size_class(network_input)
        if size not in selected:
            picture = partial(synthetic_input, *BENCHMARK_SIZES[size])
            name = autotune(backends, exact, key=f"{key} | {size}", picture=picture)
            selected[size] = backends.get(name, exact)
        return selected[size](network_input)

    return run


def autotune(
    backends: Mapping[str, Backend], exact: Backend, *, key: str, picture: Callable[[], Tensor]
) -> str:
    """Name of the fastest engine that agrees with `exact`; a name of none where only `exact` itself does.

    Measured on `picture()`, unless it is remembered under `key`.
    """
    entry = load_cache().get(key)
    if isinstance(entry, dict) and entry.get("engine") in {*backends, "exact"}:
        return str(entry["engine"])
    seconds = benchmark(backends, exact, picture=picture())
    name = min(seconds, key=seconds.__getitem__, default="exact")
    save_cache({**load_cache(), key: {"engine": name, "seconds": seconds}})
    logger.info("the network runs by %s; measured %s", name, seconds)
    return name


def benchmark(backends: Mapping[str, Backend], exact: Backend, *, picture: Tensor) -> dict[str, float]:
    """Seconds for `picture`, of those engines that run here and agree with `exact` on it.

    In turns, so that a busy moment of the machine strikes them all. Who needs twice the best time drops out.
    """
    expected = exact(picture)
    candidates = [name for name, backend in backends.items() if _agrees(name, backend, picture, expected)]
    seconds = dict.fromkeys(candidates, math.inf)
    for _ in range(TIMED_RUNS):
        for name in candidates:
            seconds[name] = min(seconds[name], _seconds(backends[name], picture))
        candidates = [name for name in candidates if seconds[name] < 2 * min(seconds.values())]
    return seconds


def _agrees(name: str, backend: Backend, picture: Tensor, expected: Tensor) -> bool:
    """Whether `backend` runs here and answers `expected`; its first run, which compiles, is over then."""
    try:
        difference = float((backend(picture) - expected).abs().max())
    except (RuntimeError, ImportError, OSError, FreezeframeError) as error:
        logger.info("%s does not run here: %s", name, error)
        return False
    logger.info("%s differs from fp32 by %.2f / 255", name, 255 * difference)
    return difference <= TOLERANCE  # false for NaN too


def _seconds(backend: Backend, picture: Tensor) -> float:
    start_time = time.perf_counter()
    backend(picture)  # its answer lies on the CPU, so that whatever was queued elsewhere is done
    return time.perf_counter() - start_time


def synthetic_input(height: int, width: int) -> Tensor:
    """Evidence such as frames give: [1, 16, H, W], always the same. Sides in multiples of 64 pixels."""
    frame = synthetic_image(height, width)
    sharper = frame + 2 * (frame - avg_pool2d(frame, 5, stride=1, padding=2, count_include_pad=False))
    neighbours = [frame.roll(step, dims=-1) for step in (-1, 1)]
    blur_vector = torch.tensor([5.0, 2.0])[:, None, None].expand(2, height, width)
    encoded = [each.clamp(0, 1) for each in (frame, sharper, *neighbours)]
    return as_network_input(encoded, blur_vector=blur_vector, confidence=torch.full((height, width), 0.8))[
        None
    ]


def synthetic_image(height: int, width: int) -> Tensor:
    """Codes with detail of all sizes, as pictures have: [3, H, W], always the same."""
    generator = torch.Generator().manual_seed(1)
    octaves = [torch.rand(1, 3, -(-height // k), -(-width // k), generator=generator) for k in (4, 16, 64)]
    return torch.stack([interpolate(each, (height, width), mode="bilinear") for each in octaves]).mean(0)[0]


def size_class(network_input: Tensor) -> str:
    """Overheads rule small pictures, arithmetic and memory large ones."""
    return "small" if network_input.shape[-2] * network_input.shape[-1] < 320 * 320 else "large"


def cache_key(network: nn.Module, device: torch.device, names: Iterable[str]) -> str:
    """What a measurement is true for: processor, threads, versions, layout of the network, contestants."""
    shapes = [(name, tuple(value.shape)) for name, value in network.state_dict().items()]
    signature = hashlib.sha256(repr(shapes).encode()).hexdigest()[:12]
    versions = [f"{name} {_version(name)}" for name in ("freezeframe", "torch", "openvino")]
    return " | ".join([_processor(device), *versions, signature, *names])


def cache_file() -> Path | None:
    """The file in the user's cache folder; None for a user who has no home."""
    folder = cache_dir()
    return None if folder is None else folder / "engines.json"


def load_cache() -> dict[str, Any]:
    """All that was ever measured; empty where there is no file, or none that can be read."""
    path = cache_file()
    with contextlib.suppress(OSError, ValueError):
        entries = json.loads(path.read_text()) if path else {}
        return entries if isinstance(entries, dict) else {}
    return {}


def save_cache(entries: Mapping[str, Any]) -> None:
    """Write all measurements; where that fails, the next run measures again."""
    path = cache_file()
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic((json.dumps(entries, indent=2) + "\n").encode(), path)
    except (OSError, FreezeframeError) as error:
        logger.info("the measurement cannot be remembered: %s", error)


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
