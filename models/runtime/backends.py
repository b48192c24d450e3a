"""Backends: one network run by torch, torch.compile or OpenVINO, in fp32 or half precision.

A backend computes a correction: the difference between the network's output and its upsampled input. fp32
torch is the reference. It also computes again whatever is not finite in half precision.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from freezeframe.data.errors import FreezeframeError, MissingExtra
from freezeframe.models.registry.architectures import Network

from . import openvino
from .device import Precision, candidate_formats, format_name, number_format

logger = logging.getLogger(__name__)

BackendName = Literal["auto", "torch", "compile", "openvino"]

CorrectionFunction = Callable[..., Tensor]
"""[1, C, H, W] to [1, D, scale H, scale W]; takes `degradation=` where the network has global context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceModel:
    """A network as backends run it."""

    title: str  # of the architecture
    module: nn.Module  # its weights identify the network in the timing cache
    correct: CorrectionFunction
    example: Callable[[tuple[int, int]], Tensor]  # height and width to an input for timing
    embed: Callable[[Tensor], Tensor] | None = None  # an image to its global statistics
    fp16: bool = True  # whether activations stay within fp16's 65,504
    fp32_channels_last: bool = False  # memory format of inputs in fp32
    openvino: Callable[[torch.dtype], CorrectionFunction] | None = None  # None: OpenVINO cannot run it


class Backend(Protocol):
    """[1, C, H, W] float32 to a correction of float32 on the input's device."""

    def __call__(self, x: Tensor, /) -> Tensor: ...

    def resolve(self, shape: torch.Size, /) -> NetworkBackend:
        """The backend that runs inputs of this shape."""

    def with_context(self, crops: Sequence[Tensor], /) -> Backend:
        """The backend for tiles of the image that `crops` were cut from."""


class GlobalContext:
    """Global statistics of an image, shared by its tiles and computed for the first of them."""

    def __init__(self, crops: Sequence[Tensor], embed: Callable[[Tensor], Tensor]) -> None:
        self._crops, self._embed = crops, embed

    @cached_property
    def embedding(self) -> Tensor:
        """Mean over the crops."""
        return torch.stack([self._embed(crop) for crop in self._crops]).mean(0)

    def is_whole(self, x: Tensor) -> bool:
        """Whether `x` is the image itself: then the network computes the statistics within its own run."""
        return len(self._crops) == 1 and self._crops[0].shape == x.shape


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkBackend:
    """One library and one number format."""

    name: str  # as reports show it: `torch bf16`
    correct: CorrectionFunction
    device: torch.device
    dtype: torch.dtype  # of convolutions and matrix products; sums and norms are fp32
    channels_last: bool = False
    embed: Callable[[Tensor], Tensor] | None = None
    context: GlobalContext | None = None

    def __call__(self, x: Tensor, /) -> Tensor:
        if self.context is None or self.context.is_whole(x):
            return self._run(self.correct, x)
        return self._run(partial(self.correct, degradation=self.context.embedding), x)

    def resolve(self, _shape: torch.Size, /) -> NetworkBackend:
        return self

    def with_context(self, crops: Sequence[Tensor], /) -> NetworkBackend:
        if self.embed is None:
            return self
        return replace(self, context=GlobalContext(crops, partial(self._run, self.embed)))

    def _run(self, function: CorrectionFunction, x: Tensor) -> Tensor:
        order = torch.channels_last if self.channels_last else torch.contiguous_format
        inputs = x.to(self.device, torch.float32, memory_format=order)
        half = self.dtype != torch.float32
        with torch.no_grad(), torch.autocast(self.device.type, dtype=self.dtype, enabled=half):
            return function(inputs).float().to(x.device)


@dataclass(slots=True)
class RunLog:
    """Number of tiles per backend; `none` counts those without a finite correction."""

    tiles: Counter[str] = field(default_factory=Counter)

    @property
    def failed_tiles(self) -> int:
        return self.tiles["none"]

    def report(self, network: str) -> dict[str, str]:
        """`network` and its backends, as in `openvino bf16, torch fp32`; empty before a run."""
        names = ", ".join(name for name, _ in self.tiles.most_common())
        return {network: names} if names else {}


def backends_used(**networks: object) -> dict[str, str]:
    """The backends of those networks that have run and keep a `RunLog`, by the name of the network."""
    used: dict[str, str] = {}
    for name, network in networks.items():
        log = getattr(network, "log", None)
        used |= log.report(name) if isinstance(log, RunLog) else {}
    return used


def first_finite(backends: Sequence[Backend], x: Tensor, log: RunLog) -> Tensor:
    """The correction of the first backend whose result is finite; zeros if none is. Takes no gradient."""
    for backend in backends:
        selected = backend.resolve(x.shape)
        correction = selected(x)
        if correction.isfinite().all():
            log.tiles[selected.name] += 1
            return correction
    log.tiles["none"] += 1
    logger.warning("the network's output is not finite: %d tiles left unchanged", log.failed_tiles)
    return torch.zeros_like(correction)


def available_backends(
    model: InferenceModel,
    *,
    device: torch.device,
    precision: Precision = "auto",
    backend: BackendName = "auto",
) -> dict[str, NetworkBackend]:
    """The candidates for `backend` and `precision` on this machine, by name.

    Raises:
        FreezeframeError: The backend or the format does not run here.
    """
    if backend == "openvino":
        _require_openvino(model, device)
    if backend == "compile":
        compiled = replace(model, correct=compile_network(model.correct))
        only = torch_backend(compiled, device, format_for(model, device, precision), library="compile")
        return {only.name: only}
    dtypes = _formats(model, device, precision)
    candidates = [torch_backend(model, device, dtype) for dtype in dtypes if backend != "openvino"]
    if model.openvino and device.type == "cpu" and backend != "torch" and openvino.installed():
        # Torch's part, the preparation of the input, stays fp32: OpenVINO has its own precision hint.
        prepare = replace(torch_backend(model, device, torch.float32), channels_last=False)
        candidates += [
            replace(prepare, name=f"openvino {format_name(dtype)}", correct=model.openvino(dtype))
            for dtype in dtypes
        ]
    return {each.name: each for each in candidates}


def torch_backend(
    model: InferenceModel, device: torch.device, dtype: torch.dtype, *, library: str = "torch"
) -> NetworkBackend:
    """Convolutions in `dtype`, the arithmetic around them in fp32, so that differences keep their digits."""
    # Half precision on the CPU is faster than fp32 only in channels_last order; depthwise convolutions in
    # fp32 are slower in that order.
    order = model.fp32_channels_last or dtype != torch.float32
    name = f"{library} {format_name(dtype)}"
    return NetworkBackend(
        name=name, correct=model.correct, device=device, dtype=dtype, channels_last=order, embed=model.embed
    )


def _formats(model: InferenceModel, device: torch.device, precision: Precision) -> list[torch.dtype]:
    """Without formats in which this network overflows."""
    if precision != "auto":
        return [format_for(model, device, precision)]
    return [d for d in candidate_formats(device).values() if d != torch.float16 or model.fp16]


def format_for(model: InferenceModel | Network, device: torch.device, precision: Precision) -> torch.dtype:
    """The number format for `precision`; `auto` never overflows, since bf16 has the exponent range of fp32.

    Raises:
        FreezeframeError: fp16 for a network that overflows in it.
    """
    dtype = number_format(device, precision)
    if dtype != torch.float16 or model.fp16:
        return dtype
    if precision == "fp16":
        raise FreezeframeError(
            f"precision fp16: {model.title} overflows in it and returns black or NaN; use bf16 or auto"
        )
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32


def compile_network(function: CorrectionFunction) -> CorrectionFunction:
    """`function` by torch.compile, for each input shape anew.

    Raises:
        FreezeframeError: At the first call, where no C++ compiler is installed.
    """
    compiled = torch.compile(function, dynamic=False)

    def run(inputs: Tensor, **kwargs: Tensor) -> Tensor:
        try:
            correction: Tensor = compiled(inputs, **kwargs)
        except torch._dynamo.exc.BackendCompilerFailed as error:
            reason = str(error).strip().splitlines()[0]
            raise FreezeframeError(
                f"backend compile: {reason}; install a C++ compiler or use backend auto"
            ) from error
        return correction

    return run


def _require_openvino(model: InferenceModel, device: torch.device) -> None:
    if device.type != "cpu":
        raise FreezeframeError(
            f"backend openvino computes on the CPU, not on {device}; use backend auto or device cpu"
        )
    if model.openvino is None:
        raise FreezeframeError(
            f"backend openvino runs the fusion network and the refiner, not {model.title}; use backend auto"
        )
    if not openvino.installed():
        raise MissingExtra("OpenVINO", "openvino", "backend openvino")
