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
from freezeframe.data.media.files.publish import save
from freezeframe.models.deblur.fusion_net import evidence as as_evidence

logger = logging.getLogger(__name__)

Engine = Callable[[Tensor], Tensor]
"""[1, 16, H, W] evidence, sides in multiples of 8, to [1, 3, H, W] on the evidence's device."""

AGREED = 2 / 255  # largest difference from fp32, in codes
TURNS = 3  # timed runs after the first, which compiles; the best counts
SIZES = {"small": (192, 256), "large": (256, 448)}  # of the picture that is measured on. Pixels


def fastest(engines: Mapping[str, Engine], exact: Engine, *, key: str) -> Engine:
    """The fastest of `engines` that agrees with `exact`, asked for when the first picture comes."""
    settled: dict[str, Engine] = {}

    def run(evidence: Tensor) -> Tensor:
        size = size_class(evidence)
        if size not in settled:
            picture = partial(sample, *SIZES[size])
            name = choose(engines, exact, key=f"{key} | {size}", picture=picture)
            settled[size] = engines.get(name, exact)
        return settled[size](evidence)

    return run


def choose(engines: Mapping[str, Engine], exact: Engine, *, key: str, picture: Callable[[], Tensor]) -> str:
    """Name of the fastest engine that agrees with `exact`; a name of none where only `exact` itself does.

    Measured on `picture()`, unless it is remembered under `key`.
    """
    found = recall().get(key)
    if isinstance(found, dict) and found.get("engine") in {*engines, "exact"}:
        return str(found["engine"])
    seconds = measure(engines, exact, picture=picture())
    name = min(seconds, key=seconds.__getitem__, default="exact")
    remember({**recall(), key: {"engine": name, "seconds": seconds}})
    logger.info("the network runs by %s; measured %s", name, seconds)
    return name


def measure(engines: Mapping[str, Engine], exact: Engine, *, picture: Tensor) -> dict[str, float]:
    """Seconds for `picture`, of those engines that run here and agree with `exact` on it.

    In turns, so that a busy moment of the machine strikes them all. Who needs twice the best time drops out.
    """
    truth = exact(picture)
    racing = [name for name, engine in engines.items() if _agrees(name, engine, picture, truth)]
    seconds = dict.fromkeys(racing, math.inf)
    for _ in range(TURNS):
        for name in racing:
            seconds[name] = min(seconds[name], _seconds(engines[name], picture))
        racing = [name for name in racing if seconds[name] < 2 * min(seconds.values())]
    return seconds


def _agrees(name: str, engine: Engine, picture: Tensor, truth: Tensor) -> bool:
    """Whether `engine` runs here and answers `truth`; its first run, which compiles, is over then."""
    try:
        difference = float((engine(picture) - truth).abs().max())
    except (RuntimeError, ImportError, OSError, FreezeframeError) as error:
        logger.info("%s does not run here: %s", name, error)
        return False
    logger.info("%s differs from fp32 by %.2f / 255", name, 255 * difference)
    return difference <= AGREED  # false for NaN too


def _seconds(engine: Engine, picture: Tensor) -> float:
    begun = time.perf_counter()
    engine(picture)  # its answer lies on the CPU, so that whatever was queued elsewhere is done
    return time.perf_counter() - begun


def sample(height: int, width: int) -> Tensor:
    """Evidence such as frames give: [1, 16, H, W], always the same. Sides in multiples of 64 pixels."""
    frame = scenery(height, width)
    sharper = frame + 2 * (frame - avg_pool2d(frame, 5, stride=1, padding=2, count_include_pad=False))
    near = [frame.roll(step, dims=-1) for step in (-1, 1)]
    way = torch.tensor([5.0, 2.0])[:, None, None].expand(2, height, width)
    codes = [each.clamp(0, 1) for each in (frame, sharper, *near)]
    return as_evidence(codes, way=way, confidence=torch.full((height, width), 0.8))[None]


def scenery(height: int, width: int) -> Tensor:
    """Codes with detail of all sizes, as pictures have: [3, H, W], always the same."""
    chance = torch.Generator().manual_seed(1)
    octaves = [torch.rand(1, 3, -(-height // k), -(-width // k), generator=chance) for k in (4, 16, 64)]
    return torch.stack([interpolate(each, (height, width), mode="bilinear") for each in octaves]).mean(0)[0]


def size_class(evidence: Tensor) -> str:
    """Overheads rule small pictures, arithmetic and memory large ones."""
    return "small" if evidence.shape[-2] * evidence.shape[-1] < 320 * 320 else "large"


def key_of(network: nn.Module, device: torch.device, names: Iterable[str]) -> str:
    """What a measurement is true for: processor, threads, versions, layout of the network, contestants."""
    shapes = [(name, tuple(value.shape)) for name, value in network.state_dict().items()]
    layout = hashlib.sha256(repr(shapes).encode()).hexdigest()[:12]
    versions = [f"{name} {_version(name)}" for name in ("freezeframe", "torch", "openvino")]
    return " | ".join([_processor(device), *versions, layout, *names])


def remembered_in() -> Path | None:
    """The file in the user's cache folder; None for a user who has no home."""
    folder = cache_dir()
    return None if folder is None else folder / "engines.json"


def recall() -> dict[str, Any]:
    """All that was ever measured; empty where there is no file, or none that can be read."""
    path = remembered_in()
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(path.read_text()) if path else {}
        return known if isinstance(known, dict) else {}
    return {}


def remember(known: Mapping[str, Any]) -> None:
    """Write all measurements; where that fails, the next run measures again."""
    path = remembered_in()
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save((json.dumps(known, indent=2) + "\n").encode(), path)
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
