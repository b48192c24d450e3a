"""Memory of a network per pixel, counted on meta tensors, and free memory of the machine."""

from __future__ import annotations

import contextlib
import math
import os
import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

META_SIDE, MEASURED_SIDE = 252, 56  # pixels; sides of the counted input: multiples of 7 and of 4
THREAD_BYTES = 72 << 20  # addresses that glibc reserves per thread: a stack of 8 MB, an arena of 64 MB
THREAD_POOLS = 5  # with one thread per core each: torch, OpenMP of numba, OpenCV, OpenVINO, FFmpeg


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBudget:
    """Limits of the tile size."""

    usable_fraction: float = 0.4  # of the free memory; the rest is for workspace and other processes
    default_bytes_per_pixel: float = 40_000.0  # of networks that cannot be counted: above all known ones
    min_tile: int = 64  # pixels
    max_tile: int = 1024  # pixels; larger tiles save less than a tenth of the time


RECOMMENDED = MemoryBudget()


class _Count(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors that are alive at once while a network runs."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._references: Counter[int] = Counter()  # Python tensors per storage

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        for value in tree_iter(output):
            if isinstance(value, Tensor):
                self._track(value)
        return output

    def _track(self, value: Tensor) -> None:
        storage = value.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if not self._references[key]:
            self.live += size
            self.peak = max(self.peak, self.live)
        self._references[key] += 1
        weakref.finalize(value, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._references[key] -= 1
        if not self._references[key]:
            del self._references[key]
            self.live -= size


def bytes_per_pixel(module: nn.Module, *, channels: int = 3) -> float:
    """Peak memory in fp32 per pixel while `module` runs, without its weights.

    Nothing is computed on torch's meta device: operators only infer shapes. Networks whose control flow
    depends on values compute a small image instead.

    Args:
        module: [1, channels, H, W] to an image.
        channels: Of the input.
    """
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    meta_tensors = {name: torch.empty_like(value, device="meta") for name, value in tensors.items()}
    own_device = next((value.device for value in tensors.values()), torch.device("cpu"))
    for weights, side, device in (
        (meta_tensors, META_SIDE, torch.device("meta")),
        (tensors, MEASURED_SIDE, own_device),
    ):
        with contextlib.suppress(RuntimeError, NotImplementedError, TypeError, ValueError):
            with torch.no_grad(), _Count() as count:
                functional_call(module, weights, torch.zeros(1, channels, side, side, device=device))
            return float(max(count.peak / side**2, 4.0 * channels))
    return RECOMMENDED.default_bytes_per_pixel


def max_tile_side(
    per_pixel: float, device: torch.device, *, multiple: int = 1, budget: MemoryBudget = RECOMMENDED
) -> int:
    """Side of the largest tile that fits into free memory. Pixels, a multiple of `multiple`."""
    side = math.isqrt(int(budget.usable_fraction * free_bytes(device) / per_pixel))
    side = min(max(side, budget.min_tile), budget.max_tile)
    return max(side // multiple * multiple, multiple)


def free_bytes(device: torch.device) -> int:
    """Free memory of `device`; 4 GB where the system does not report it."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return max(min(_free_of_machine(), *_free_of_groups(), *_free_of_limits()), 0)


def _free_of_machine() -> int:
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        return int(line.split()[1]) << 10
    return 4 << 30


def _free_of_groups() -> Iterator[int]:
    """Free memory within the limits of a container, by either version of control groups."""
    root = Path("/sys/fs/cgroup")
    pairs = (
        (root / "memory.max", root / "memory.current"),
        (root / "memory/memory.limit_in_bytes", root / "memory/memory.usage_in_bytes"),
    )
    for limit, used in pairs:
        with contextlib.suppress(OSError, ValueError):  # "max" is no number: there is no limit
            yield int(limit.read_text()) - int(used.read_text())


def _free_of_limits() -> Iterator[int]:
    """Free address space under `ulimit -v`, if there is a limit.

    The limit counts addresses, not memory, so what threads reserve and never use counts as well. A process
    that reaches it in a library may crash, so it must be known before.
    """
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            threads = THREAD_POOLS * (os.cpu_count() or 1)
            yield limit - pages * resource.getpagesize() - threads * THREAD_BYTES
