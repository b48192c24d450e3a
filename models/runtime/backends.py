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
from freezeframe.models.deblur.refiner import MULTIPLE, SEEN, Refiner
from freezeframe.models.imageops.tiling import filled
from freezeframe.models.imageops.upscale import enlarged_codes
from freezeframe.models.registry.architectures import Network

from . import openvino as engine_openvino
from .autotune import choose, key_of, recall, scenery
from .device import FORMATS, Precision, formats, number_format
from .engine import Way, compiled

WORTH = 200 * 200  # pixels; for less, measuring costs more than it saves
QUICK = 0.25  # seconds; who takes no longer for a small picture is measured on a large one
SIZES = {"small": (96, 128), "large": (384, 512)}  # of the picture that is measured on. Pixels
PATIENCE = 8  # pictures of one size after which compiling for that size pays

Run = Callable[..., Tensor]
"""[1, channels, H, W] codes to what has to be added to them; takes `degradation` where the network shares."""


@dataclass(frozen=True, slots=True)
class Computed:
    """A network run one way, knowing or not what happened to the whole picture."""

    run: Run
    describe: Callable[[Tensor], Tensor] | None  # a picture to what its tiles share
    device: torch.device
    dtype: torch.dtype  # of convolutions and products; sums and norms are fp32's
    title: str = "torch fp32"
    parts: tuple[Tensor, ...] = ()  # of the picture whose tiles come
    told: list[Tensor] = field(default_factory=list)  # of them by `describe`, once a tile asks

    def name(self) -> str:
        return self.title

    def __call__(self, codes: Tensor) -> Tensor:
        whole = len(self.parts) == 1 and self.parts[0].shape == codes.shape
        # A picture that comes whole tells the network all by itself, and sooner.
        shared = bool(self.told or self.parts) and not whole
        return self._computed(partial(self.run, degradation=self._known()) if shared else self.run, codes)

    def settled(self, parts: list[Tensor]) -> Computed:
        return self if self.describe is None else replace(self, parts=tuple(parts), told=[])

    def _known(self) -> Tensor:
        if not self.told and self.describe is not None:
            told = [self._computed(self.describe, part) for part in self.parts]
            self.told.append(torch.stack(told).mean(0))
        return self.told[0]

    def _computed(self, run: Callable[[Tensor], Tensor], codes: Tensor) -> Tensor:
        half = self.dtype != torch.float32
        # Half precision on the CPU is faster than fp32 only with the channels of a pixel side by side;
        # depthwise convolutions in fp32 are slower so.
        order = torch.channels_last if half else torch.contiguous_format
        given = codes.to(self.device, torch.float32, memory_format=order)
        with torch.no_grad(), torch.autocast(self.device.type, dtype=self.dtype, enabled=half):
            return run(given).float().to(codes.device)


@dataclass(frozen=True, slots=True)
class Fastest:
    """The fastest of several ways that agrees with `exact`; small pictures are not worth finding out."""

    ways: Mapping[str, Computed]  # as they are measured
    patient: Mapping[str, Computed]  # the same as they are taken, where compiling for a size must pay first
    exact: Computed
    key: str
    channels: int
    side: int | None  # the only size that the network takes. Pixels
    found: list[str] = field(default_factory=list)  # the name, once it is known

    def __call__(self, codes: Tensor) -> Tensor:
        return self._way(codes.shape[-2] * codes.shape[-1])(codes)

    def settled(self, parts: list[Tensor]) -> Computed:
        return self._way(sum(part.shape[-2] * part.shape[-1] for part in parts)).settled(parts)

    def name(self) -> str:
        """What the measurement found, measuring where nobody has: `torch bf16`, `exact`."""
        if not self.found:
            self.found.append(self._chosen())
        return self.found[0]

    def _chosen(self) -> str:
        sizes = SIZES if self.side is None else dict.fromkeys(SIZES, (self.side, self.side))
        known = next((size for size in SIZES if self._key(size) in recall()), None)
        size = known or ("large" if self._seconds(sizes["small"]) < QUICK else "small")
        return choose(
            {name: partial(_alone, way) for name, way in self.ways.items()},
            partial(_alone, self.exact),
            key=self._key(size),
            picture=lambda: self._picture(sizes[size]),
        )

    def _way(self, pixels: int) -> Computed:
        if pixels < WORTH:
            return self.exact
        name = self.name()
        return self.patient.get(name) or self.ways.get(name) or self.exact

    def _key(self, size: str) -> str:
        return f"{self.key} | {size}"

    def _seconds(self, size: tuple[int, int]) -> float:
        picture = self._picture(size)
        begun = time.perf_counter()
        _alone(self.exact, picture)
        return time.perf_counter() - begun

    def _picture(self, size: tuple[int, int]) -> Tensor:
        return scenery(*size)[None, : self.channels]


def _alone(way: Computed, codes: Tensor) -> Tensor:
    return way.settled([codes])(codes)


def ways_of(
    network: Network, *, device: torch.device, precision: Precision = "auto", way: Way = "auto"
) -> tuple[Fastest | Computed, ...]:
    """How to run `network`, which lies on `device`: the way to take, then plain fp32 for what overflows.

    Args:
        network: With its weights.
        device: Where it lies.
        precision: Format of its inner numbers. `auto` is whatever is fastest and agrees with fp32.
        way: `auto` measures torch, and OpenVINO for the refiner where it is installed. `compile` is
            torch.compile, which takes a C++ compiler and half a minute or more per size of tile.

    Raises:
        FreezeframeError: The way or the format cannot be had here.
    """
    exact = _in_torch(network, device, torch.float32)
    found = _all_ways(network, device=device, precision=precision, way=way)
    if len(found) > 1:
        key = f"restorer | {key_of(network.module, device, found)}"
        return Fastest(found, _waiting(found), exact, key, network.channels, network.side), exact
    only = next(iter(found.values()))
    return (exact,) if only.dtype == torch.float32 and way in {"auto", "torch"} else (only, exact)


def _waiting(found: Mapping[str, Computed]) -> dict[str, Computed]:
    """Compiled ways that leave a size to torch until it has come often: compiling takes seconds for each."""
    pairs = {name: name.replace("openvino", "torch") for name in found if name.startswith("openvino")}
    return {name: _patient(found[name], found[plain]) for name, plain in pairs.items()}


def _patient(compiled: Computed, plain: Computed) -> Computed:
    seen: Counter[torch.Size] = Counter()

    def run(codes: Tensor, *, degradation: Tensor | None = None) -> Tensor:
        seen[codes.shape] += 1
        chosen = compiled if seen[codes.shape] > PATIENCE else plain
        return replace(chosen, told=[] if degradation is None else [degradation])(codes)

    return replace(compiled, run=run)


def _all_ways(
    network: Network, *, device: torch.device, precision: Precision, way: Way
) -> dict[str, Computed]:
    if way == "compile":
        dtype = format_for(network, device, precision)
        quick = _in_torch(network, device, dtype)
        return {"compile": replace(quick, run=compiled(quick.run), title="compile")}
    named = _formats(network, device, precision)
    found: dict[str, Computed] = {}
    if way in {"auto", "torch"}:
        plain = [_in_torch(network, device, dtype) for dtype in named.values()]
        found |= {each.title: each for each in plain}
    if way == "openvino":
        _require_openvino(network, device)
    if way == "openvino" or (way == "auto" and _openvino_serves(network, device)):
        found |= {f"openvino {name}": _in_openvino(network, device, dtype) for name, dtype in named.items()}
    return found


def _formats(network: Network, device: torch.device, precision: Precision) -> dict[str, torch.dtype]:
    """By name; none that overflows in this network."""
    if precision == "auto":
        named = formats(device)
        return {name: dtype for name, dtype in named.items() if dtype != torch.float16 or network.fp16}
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


def _in_torch(network: Network, device: torch.device, dtype: torch.dtype) -> Computed:
    title = f"torch {next(name for name, known in FORMATS.items() if known == dtype)}"
    return Computed(_plain(network), _describe(network), device, dtype, title)


def _plain(network: Network) -> Run:
    """What the network adds; who tells that itself does not round the picture."""
    told: Run | None = getattr(network.module, "correction", None)
    return told if told and network.scale == 1 else partial(_difference, network.module)


def _describe(network: Network) -> Callable[[Tensor], Tensor] | None:
    return cast("Callable[[Tensor], Tensor]", network.module.degradation) if network.shares else None


def _difference(module: Callable[[Tensor], Tensor], codes: Tensor) -> Tensor:
    """What a network adds to its input, enlarged in light: the scale is that of its answer."""
    answer = module(codes)
    return answer - enlarged_codes(codes, answer.shape[-1] // codes.shape[-1])


def _in_openvino(network: Network, device: torch.device, dtype: torch.dtype) -> Computed:
    """The refiner's learned part compiled; what is computed of the picture before it stays torch's."""
    refiner = cast("Refiner", network.module)
    learned = engine_openvino.in_openvino(_Judged(refiner), dtype, channels=SEEN)

    def run(codes: Tensor, *, degradation: Tensor | None = None) -> Tensor:
        height, width = codes.shape[-2:]
        evidence = refiner.evidence(codes, degradation=degradation)
        whole = filled(evidence, MULTIPLE)
        return learned(whole)[..., :height, :width]

    return Computed(run, _describe(network), device, torch.float32, "openvino")


class _Judged(nn.Module):
    """What of the refiner is learned, as a module of its own."""

    def __init__(self, refiner: Refiner) -> None:
        super().__init__()
        self.refiner = refiner

    def forward(self, evidence: Tensor) -> Tensor:
        return self.refiner.judged(evidence)


def _openvino_serves(network: Network, device: torch.device) -> bool:
    """Convolutions gain by it; NAFNet did not, and took 18 s to compile, attention cannot be read at all."""
    return isinstance(network.module, Refiner) and device.type == "cpu" and engine_openvino.installed()


def _require_openvino(network: Network, device: torch.device) -> None:
    if not isinstance(network.module, Refiner) or device.type != "cpu":
        raise FreezeframeError(
            f"engine openvino runs the refiner on the CPU, not {network.title} on {device}; use auto"
        )
    if not engine_openvino.installed():
        raise MissingExtra("OpenVINO", "openvino", "engine openvino")
