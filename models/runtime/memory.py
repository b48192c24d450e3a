"""How much memory a network takes: counted on tensors that hold nothing, and what this machine has free."""

from __future__ import annotations

import contextlib
import math
import os
import weakref
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

META_SIDE, MEASURED_SIDE = 252, 56  # pixels of the picture that is counted on: multiples of 7 and of 4
USABLE_FRACTION = 0.4  # of the free memory; the rest is for workspace, which is not counted, and for others
DEFAULT_BYTES_PER_PIXEL = (
    40_000.0  # bytes per pixel of a network that cannot be counted: more than all of ours
)
THREAD_BYTES = 72 << 20  # of addresses that glibc reserves for one thread: a stack of 8 MB, an arena of 64 MB
THREAD_POOLS = 5  # with a thread per core each: torch, OpenMP of numba, OpenCV, OpenVINO, FFmpeg
MIN_TILE, MAX_TILE = 64, 1024  # pixels; larger tiles save less than a tenth of the time


class _Count(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors that live at once while networks run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._references: Counter[int] = Counter()  # Python tensors over each storage

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = func(*args, **(kwargs or {}))
        for value in tree_iter(answer):
            if isinstance(value, Tensor):
                self._track(value)
        return answer

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
    """Memory in fp32 that one more pixel takes while `module` runs, without its weights.

    Nothing is computed: the operators only tell the shapes of their answers (torch's meta device). Networks
    that must look at numbers compute a small picture.

    Args:
        module: [1, channels, H, W] to a picture.
        channels: Of the picture.
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
    return DEFAULT_BYTES_PER_PIXEL


def max_tile_side(per_pixel: float, device: torch.device, *, multiple: int = 1) -> int:
    """The side of the largest tile that is sure to fit into free memory. Pixels, a multiple of `multiple`."""
    side = math.isqrt(int(USABLE_FRACTION * free_bytes(device) / per_pixel))
    side = min(max(side, MIN_TILE), MAX_TILE)
    return max(side // multiple * multiple, multiple)


def free_bytes(device: torch.device) -> int:
    """Memory that can still be taken there; 4 GB where nobody tells."""
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
    """What a container may still take, by either version of control groups."""
    root = Path("/sys/fs/cgroup")
    pairs = (
        (root / "memory.max", root / "memory.current"),
        (root / "memory/memory.limit_in_bytes", root / "memory/memory.usage_in_bytes"),
    )
    for limit, used in pairs:
        with contextlib.suppress(OSError, ValueError):  # "max" is no number: no limit
            yield int(limit.read_text()) - int(used.read_text())


def _free_of_limits() -> Iterator[int]:
    """What the limit that `ulimit -v` shows leaves this process, where there is one.

    It counts addresses, not memory: what threads reserve and never fill is counted too. A process that meets
    the limit in the middle of its work may crash inside a library, so this must be known before.
    """
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            threads = THREAD_POOLS * (os.cpu_count() or 1)
            yield limit - pages * resource.getpagesize() - threads * THREAD_BYTES
