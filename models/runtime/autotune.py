"""Selection of a backend: the fastest one that agrees with fp32, timed once per machine and network."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from freezeframe.data.errors import FreezeframeError
from freezeframe.models.deblur.fusion_net import build_network_input

from .backends import (
    Backend,
    BackendName,
    InferenceModel,
    NetworkBackend,
    available_backends,
    torch_backend,
)
from .device import Precision
from .timing_cache import cache_key, load_cache, save_cache

logger = logging.getLogger(__name__)

EXACT = "exact"  # the cached name where no candidate agrees with the reference
Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class AutotuneConfig:
    """Sizes and limits of the selection; the defaults suit restorers."""

    tolerance: float = 2 / 255  # largest difference from fp32, in code values of [0, 1]
    timed_runs: int = 3  # after the first run, which compiles; the best counts
    min_pixels: int = 200 * 200  # smaller images run in fp32: timing costs more than it saves
    large_pixels: int = 0  # images of at least this size are timed apart from smaller ones
    small: tuple[int, int] = (96, 128)  # height and width of the timed image. Pixels
    large: tuple[int, int] = (384, 512)  # the same of the size class of large images
    fast_seconds: float = 0.25  # networks that take longer for `small` are timed on it for large images too
    compile_after: int = 8  # inputs of one shape before OpenVINO compiles for it, which takes seconds


RECOMMENDED = AutotuneConfig()


def build_backends(
    model: InferenceModel,
    *,
    device: torch.device,
    precision: Precision = "auto",
    backend: BackendName = "auto",
    config: AutotuneConfig = RECOMMENDED,
) -> tuple[Backend, ...]:
    """The backends for `model` in the order in which they are tried; the last one is fp32 torch.

    Args:
        model: A network whose weights lie on `device`.
        device: Where to compute.
        precision: Number format; `auto` is the fastest that agrees with fp32.
        backend: `auto` times torch, and OpenVINO where it is installed and runs the network. `compile` is
            torch.compile, which needs a C++ compiler and half a minute or more per input shape. If neither
            backend nor precision is `auto`, nothing is timed and the timing cache is not used.
        config: Sizes and limits of the timing.

    Raises:
        FreezeframeError: The backend or the format does not run here.
    """
    exact = torch_backend(model, device, torch.float32)
    candidates = available_backends(model, device=device, precision=precision, backend=backend)
    if len(candidates) > 1:
        key = f"{model.title} | {cache_key(model.module, device, candidates)}"
        fastest = AutotunedBackend(
            candidates=candidates, exact=exact, key=key, example=model.example, config=config
        )
        return fastest, exact
    (only,) = candidates.values()
    return (exact,) if only.name == exact.name else (only, exact)


@dataclass(slots=True, kw_only=True)
class AutotunedBackend:
    """The fastest of `candidates` that agrees with `exact`, selected for the first image of a size class."""

    candidates: Mapping[str, NetworkBackend]
    exact: NetworkBackend
    key: str  # in the timing cache, without the size class
    example: Callable[[tuple[int, int]], Tensor]  # height and width to an input
    config: AutotuneConfig = RECOMMENDED
    selected: dict[str, Backend] = field(default_factory=dict, init=False)  # by size class

    def __call__(self, x: Tensor, /) -> Tensor:
        return self.resolve(x.shape)(x)

    def resolve(self, shape: torch.Size, /) -> NetworkBackend:
        return self.select(shape[-2] * shape[-1]).resolve(shape)

    def with_context(self, crops: Sequence[Tensor], /) -> Backend:
        return self.select(sum(crop.shape[-2] * crop.shape[-1] for crop in crops)).with_context(crops)

    def select(self, pixels: int) -> Backend:
        """The backend for images of this size, from the timing cache or by timing."""
        if pixels < self.config.min_pixels:
            return self.exact
        # Overheads dominate for small images, arithmetic and memory for large ones.
        size_class = "small" if pixels < self.config.large_pixels else "large"
        if size_class not in self.selected:
            name = autotune(
                {name: _on_whole_image(backend) for name, backend in self.candidates.items()},
                _on_whole_image(self.exact),
                key=f"{self.key} | {size_class}",
                example=lambda: self._timed_example(size_class),
                config=self.config,
            )
            self.selected[size_class] = self._deferred(name)
        return self.selected[size_class]

    def _timed_example(self, size_class: str) -> Tensor:
        small = self.example(self.config.small)
        if (
            size_class == "small"
            or seconds_of(_on_whole_image(self.exact), small) >= self.config.fast_seconds
        ):
            return small
        return self.example(self.config.large)

    def _deferred(self, name: str) -> Backend:
        selected = self.candidates.get(name, self.exact)
        plain = self.candidates.get(name.replace("openvino", "torch"), selected)
        if plain is selected or not self.config.compile_after:
            return selected
        return DeferredBackend(compiled=selected, plain=plain, after=self.config.compile_after)


@dataclass(slots=True, kw_only=True)
class DeferredBackend:
    """`plain` until a shape has come `after` times, then `compiled`: compiling for a shape takes seconds."""

    compiled: NetworkBackend
    plain: NetworkBackend
    after: int
    counts: Counter[torch.Size] = field(default_factory=Counter)  # inputs of each shape

    def __call__(self, x: Tensor, /) -> Tensor:
        return self.resolve(x.shape)(x)

    def resolve(self, shape: torch.Size, /) -> NetworkBackend:
        self.counts[shape] += 1
        return self.compiled if self.counts[shape] > self.after else self.plain

    def with_context(self, crops: Sequence[Tensor], /) -> DeferredBackend:
        compiled = self.compiled.with_context(crops)
        return replace(self, compiled=compiled, plain=replace(self.plain, context=compiled.context))


def _on_whole_image(backend: NetworkBackend) -> Run:
    return lambda x: backend.with_context([x])(x)


def autotune(
    backends: Mapping[str, Run],
    exact: Run,
    *,
    key: str,
    example: Callable[[], Tensor],
    config: AutotuneConfig = RECOMMENDED,
) -> str:
    """Name of the fastest backend that agrees with `exact`; `EXACT` if none does.

    Read from the timing cache if it has `key`, else measured on `example()` and stored there.
    """
    entry = load_cache().get(key)
    if isinstance(entry, dict) and entry.get("backend") in {*backends, EXACT}:
        return str(entry["backend"])
    seconds = benchmark(backends, exact, example(), config=config)
    name = min(seconds, key=seconds.__getitem__, default=EXACT)
    save_cache({**load_cache(), key: {"backend": name, "seconds": seconds}})
    logger.info("backend %s; seconds %s", name, seconds)
    return name


def benchmark(
    backends: Mapping[str, Run], exact: Run, x: Tensor, *, config: AutotuneConfig = RECOMMENDED
) -> dict[str, float]:
    """Seconds for `x` of the backends that run here and agree with `exact` on it.

    Runs are interleaved, so that background load affects all candidates. Candidates that take twice the best
    time are dropped.
    """
    expected = exact(x)
    names = [name for name, run in backends.items() if _agrees(name, run, x, expected, config.tolerance)]
    seconds = dict.fromkeys(names, math.inf)
    for _ in range(config.timed_runs):
        for name in names:
            seconds[name] = min(seconds[name], seconds_of(backends[name], x))
        names = [name for name in names if seconds[name] < 2 * min(seconds.values())]
    return seconds


def _agrees(name: str, run: Run, x: Tensor, expected: Tensor, tolerance: float) -> bool:
    """Whether the backend runs here and agrees. Its first run, which compiles, is over then."""
    try:
        difference = float((run(x) - expected).abs().max())
    except (RuntimeError, ImportError, OSError, FreezeframeError) as error:
        logger.info("%s does not run here: %s", name, error)
        return False
    logger.info("%s differs from fp32 by %.2f / 255", name, 255 * difference)
    return difference <= tolerance  # false for NaN as well


def seconds_of(run: Run, x: Tensor) -> float:
    """Wall time of one run. The result lies on the CPU, so work queued on a GPU is over as well."""
    start_time = time.perf_counter()
    run(x)
    return time.perf_counter() - start_time


def synthetic_input(height: int, width: int) -> Tensor:
    """A fixed input of the fusion network, [1, 16, H, W]. Sides in multiples of 64 pixels."""
    frame = synthetic_image(height, width)
    sharper = frame + 2 * (frame - avg_pool2d(frame, 5, stride=1, padding=2, count_include_pad=False))
    neighbours = [frame.roll(step, dims=-1) for step in (-1, 1)]
    blur_vector = torch.tensor([5.0, 2.0])[:, None, None].expand(2, height, width)
    encoded = [each.clamp(0, 1) for each in (frame, sharper, *neighbours)]
    confidence = torch.full((height, width), 0.8)
    return build_network_input(encoded, blur_vector=blur_vector, confidence=confidence)[None]


def synthetic_image(height: int, width: int) -> Tensor:
    """A fixed sRGB-encoded image, [3, H, W], with detail of all sizes, as photographs have."""
    generator = torch.Generator().manual_seed(1)
    octaves = [torch.rand(1, 3, -(-height // k), -(-width // k), generator=generator) for k in (4, 16, 64)]
    return torch.stack([interpolate(each, (height, width), mode="bilinear") for each in octaves]).mean(0)[0]
