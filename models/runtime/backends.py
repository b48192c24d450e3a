"""The ways to run a restorer here: plain, in half precision or compiled; the fastest that agrees is taken.

Which it is gets measured once per machine and network (`engine_choice`), for a picture large enough to be
worth it, and is remembered. What is not finite is computed again in fp32: plain fp32 is always the last way.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from freezeframe.data.errors import FreezeframeError, MissingExtra
from freezeframe.models.deblur.refiner import INPUT_CHANNELS, MULTIPLE, Refiner
from freezeframe.models.imageops.tiling import pad_replicate
from freezeframe.models.imageops.upscale import upsample_encoded
from freezeframe.models.registry.architectures import Network

from . import openvino as engine_openvino
from .autotune import autotune, cache_key, load_cache, synthetic_image
from .device import FORMATS, Precision, formats, number_format
from .engine import BackendName, compile_network

MIN_AUTOTUNE_PIXELS = 200 * 200  # pixels; for less, measuring costs more than it saves
FAST_SECONDS = 0.25  # seconds; who takes no longer for a small picture is measured on a large one
BENCHMARK_SIZES = {"small": (96, 128), "large": (384, 512)}  # of the picture that is measured on. Pixels
COMPILE_AFTER = 8  # pictures of one size after which compiling for that size pays

Run = Callable[..., Tensor]
"""[1, channels, H, W] codes to what has to be added to them; takes `degradation` where the network shares."""


@dataclass(frozen=True, slots=True)
class BackendCorrection:
    """A network run one way, knowing or not what happened to the whole picture."""

    run: Run
    embed: Callable[[Tensor], Tensor] | None  # a picture to what its tiles share
    device: torch.device
    dtype: torch.dtype  # of convolutions and products; sums and norms are fp32's
    title: str = "torch fp32"
    crops: tuple[Tensor, ...] = ()  # of the picture whose tiles come
    embedding_cache: list[Tensor] = field(default_factory=list)  # of them by `embed`, once a tile asks

    def name(self) -> str:
        return self.title

    def __call__(self, encoded: Tensor) -> Tensor:
        is_whole = len(self.crops) == 1 and self.crops[0].shape == encoded.shape
        # A picture that comes whole tells the network all by itself, and sooner.
        use_context = bool(self.embedding_cache or self.crops) and not is_whole
        return self._run(
            partial(self.run, degradation=self._embedding()) if use_context else self.run, encoded
        )

    def with_context(self, crops: list[Tensor]) -> BackendCorrection:
        return self if self.embed is None else replace(self, crops=tuple(crops), embedding_cache=[])

    def _embedding(self) -> Tensor:
        if not self.embedding_cache and self.embed is not None:
            embedding_cache = [self._run(self.embed, part) for part in self.crops]
            self.embedding_cache.append(torch.stack(embedding_cache).mean(0))
        return self.embedding_cache[0]

    def _run(self, run: Callable[[Tensor], Tensor], encoded: Tensor) -> Tensor:
        half = self.dtype != torch.float32
        # Half precision on the CPU is faster than fp32 only with the channels of a pixel side by side;
        # depthwise convolutions in fp32 are slower so.
        order = torch.channels_last if half else torch.contiguous_format
        inputs = encoded.to(self.device, torch.float32, memory_format=order)
        with torch.no_grad(), torch.autocast(self.device.type, dtype=self.dtype, enabled=half):
            return run(inputs).float().to(encoded.device)


@dataclass(frozen=True, slots=True)
class AutotunedBackend:
    """The fastest of several ways that agrees with `exact`; small pictures are not worth finding out."""

    backends: Mapping[str, BackendCorrection]  # as they are measured
    deferred: Mapping[
        str, BackendCorrection
    ]  # the same as they are taken, where compiling for a size must pay first
    exact: BackendCorrection
    key: str
    channels: int
    side: int | None  # the only size that the network takes. Pixels
    selected_name: list[str] = field(default_factory=list)  # the name, once it is known

    def __call__(self, encoded: Tensor) -> Tensor:
        return self._backend_for(encoded.shape[-2] * encoded.shape[-1])(encoded)

    def with_context(self, crops: list[Tensor]) -> BackendCorrection:
        return self._backend_for(sum(part.shape[-2] * part.shape[-1] for part in crops)).with_context(crops)

    def name(self) -> str:
        """What the measurement found, measuring where nobody has: `torch bf16`, `exact`."""
        if not self.selected_name:
            self.selected_name.append(self._select())
        return self.selected_name[0]

    def _select(self) -> str:
        sizes = (
            BENCHMARK_SIZES if self.side is None else dict.fromkeys(BENCHMARK_SIZES, (self.side, self.side))
        )
        measured_size = next((size for size in BENCHMARK_SIZES if self._key(size) in load_cache()), None)
        size = measured_size or ("large" if self._seconds(sizes["small"]) < FAST_SECONDS else "small")
        return autotune(
            {name: partial(_run_alone, backend) for name, backend in self.backends.items()},
            partial(_run_alone, self.exact),
            key=self._key(size),
            picture=lambda: self._picture(sizes[size]),
        )

    def _backend_for(self, pixels: int) -> BackendCorrection:
        if pixels < MIN_AUTOTUNE_PIXELS:
            return self.exact
        name = self.name()
        return self.deferred.get(name) or self.backends.get(name) or self.exact

    def _key(self, size: str) -> str:
        return f"{self.key} | {size}"

    def _seconds(self, size: tuple[int, int]) -> float:
        picture = self._picture(size)
        start_time = time.perf_counter()
        _run_alone(self.exact, picture)
        return time.perf_counter() - start_time

    def _picture(self, size: tuple[int, int]) -> Tensor:
        return synthetic_image(*size)[None, : self.channels]


def _run_alone(backend: BackendCorrection, encoded: Tensor) -> Tensor:
    return backend.with_context([encoded])(encoded)


def build_backends(
    network: Network, *, device: torch.device, precision: Precision = "auto", backend: BackendName = "auto"
) -> tuple[AutotunedBackend | BackendCorrection, ...]:
    """How to run `network`, which lies on `device`: the way to take, then plain fp32 for what overflows.

    Args:
        network: With its weights.
        device: Where it lies.
        precision: Format of its inner numbers. `auto` is whatever is fastest and agrees with fp32.
        backend: `auto` measures torch, and OpenVINO for the refiner where it is installed. `compile` is
            torch.compile, which takes a C++ compiler and half a minute or more per size of tile.

    Raises:
        FreezeframeError: The way or the format cannot be had here.
    """
    exact = _torch_backend(network, device, torch.float32)
    backends = _candidates(network, device=device, precision=precision, backend=backend)
    if len(backends) > 1:
        key = f"restorer | {cache_key(network.module, device, backends)}"
        return AutotunedBackend(
            backends, _with_deferred_compile(backends), exact, key, network.channels, network.side
        ), exact
    only = next(iter(backends.values()))
    return (exact,) if only.dtype == torch.float32 and backend in {"auto", "torch"} else (only, exact)


def _with_deferred_compile(backends: Mapping[str, BackendCorrection]) -> dict[str, BackendCorrection]:
    """Compiled ways that leave a size to torch until it has come often: compiling takes seconds for each."""
    pairs = {name: name.replace("openvino", "torch") for name in backends if name.startswith("openvino")}
    return {name: _defer_compile(backends[name], backends[plain]) for name, plain in pairs.items()}


def _defer_compile(
    compiled_backend: BackendCorrection, torch_backend: BackendCorrection
) -> BackendCorrection:
    counts: Counter[torch.Size] = Counter()

    def run(encoded: Tensor, *, degradation: Tensor | None = None) -> Tensor:
        counts[encoded.shape] += 1
        selected = compiled_backend if counts[encoded.shape] > COMPILE_AFTER else torch_backend
        return replace(selected, embedding_cache=[] if degradation is None else [degradation])(encoded)

    return replace(compiled_backend, run=run)


def _candidates(
    network: Network, *, device: torch.device, precision: Precision, backend: BackendName
) -> dict[str, BackendCorrection]:
    if backend == "compile":
        dtype = format_for(network, device, precision)
        fast = _torch_backend(network, device, dtype)
        return {"compile": replace(fast, run=compile_network(fast.run), title="compile")}
    dtypes = _formats(network, device, precision)
    backends: dict[str, BackendCorrection] = {}
    if backend in {"auto", "torch"}:
        plain = [_torch_backend(network, device, dtype) for dtype in dtypes.values()]
        backends |= {each.title: each for each in plain}
    if backend == "openvino":
        _require_openvino(network, device)
    if backend == "openvino" or (backend == "auto" and _openvino_applies(network, device)):
        backends |= {
            f"openvino {name}": _openvino_backend(network, device, dtype) for name, dtype in dtypes.items()
        }
    return backends


def _formats(network: Network, device: torch.device, precision: Precision) -> dict[str, torch.dtype]:
    """By name; none that overflows in this network."""
    if precision == "auto":
        dtypes = formats(device)
        return {name: dtype for name, dtype in dtypes.items() if dtype != torch.float16 or network.fp16}
    return {precision: format_for(network, device, precision)}


def format_for(network: Network, device: torch.device, precision: Precision) -> torch.dtype:
    """The number format that was asked for; `auto` never overflows: bf16 reaches as far as fp32."""
    dtype = number_format(device, precision)
    if dtype != torch.float16 or network.fp16:
        return dtype
    if precision == "fp16":
        raise FreezeframeError(
            f"precision fp16: {network.title} overflows in it and answers black or nothing; use bf16 or auto"
        )
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32


def _torch_backend(network: Network, device: torch.device, dtype: torch.dtype) -> BackendCorrection:
    title = f"torch {next(name for name, measured_size in FORMATS.items() if measured_size == dtype)}"
    return BackendCorrection(_residual_of(network), _embed(network), device, dtype, title)


def _residual_of(network: Network) -> Run:
    """What the network adds; who tells that itself does not round the picture."""
    correction: Run | None = getattr(network.module, "correction", None)
    return correction if correction and network.scale == 1 else partial(_residual, network.module)


def _embed(network: Network) -> Callable[[Tensor], Tensor] | None:
    return (
        cast("Callable[[Tensor], Tensor]", network.module.degradation) if network.has_global_context else None
    )


def _residual(module: Callable[[Tensor], Tensor], encoded: Tensor) -> Tensor:
    """What a network adds to its input, enlarged in light: the scale is that of its answer."""
    answer = module(encoded)
    return answer - upsample_encoded(encoded, answer.shape[-1] // encoded.shape[-1])


def _openvino_backend(network: Network, device: torch.device, dtype: torch.dtype) -> BackendCorrection:
    """The refiner's learned part compiled; what is computed of the picture before it stays torch's."""
    refiner = cast("Refiner", network.module)
    compute_learned = engine_openvino.openvino_backend(_LearnedPart(refiner), dtype, channels=INPUT_CHANNELS)

    def run(encoded: Tensor, *, degradation: Tensor | None = None) -> Tensor:
        height, width = encoded.shape[-2:]
        network_input = refiner.network_input(encoded, degradation=degradation)
        padded = pad_replicate(network_input, MULTIPLE)
        return compute_learned(padded)[..., :height, :width]

    return BackendCorrection(run, _embed(network), device, torch.float32, "openvino")


class _LearnedPart(nn.Module):
    """What of the refiner is learned, as a module of its own."""

    def __init__(self, refiner: Refiner) -> None:
        super().__init__()
        self.refiner = refiner

    def forward(self, network_input: Tensor) -> Tensor:
        return self.refiner.predict_correction(network_input)


def _openvino_applies(network: Network, device: torch.device) -> bool:
    """Convolutions gain by it; NAFNet did not, and took 18 s to compile, attention cannot be read at all."""
    return isinstance(network.module, Refiner) and device.type == "cpu" and engine_openvino.installed()


def _require_openvino(network: Network, device: torch.device) -> None:
    if not isinstance(network.module, Refiner) or device.type != "cpu":
        raise FreezeframeError(
            f"engine openvino runs the refiner on the CPU, not {network.title} on {device}; use auto"
        )
    if not engine_openvino.installed():
        raise MissingExtra("OpenVINO", "openvino", "engine openvino")
