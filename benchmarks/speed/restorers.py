"""Every restorer on its selected backend against its plain fp32 eager forward, within one run.

Run: python -m benchmarks.speed.restorers   (about ten minutes on two cores; --only refiner for one)

Random weights of the published sizes: time does not depend on them. Runs are interleaved, the best of several
counts; CPU time, which other jobs disturb less, is given beside wall time.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from freezeframe.models.deblur import refiner
from freezeframe.models.nets import nafnet
from freezeframe.models.nets.hair import model as hair
from freezeframe.models.nets.restormer import model as restormer
from freezeframe.models.nets.swinir import model as swinir
from freezeframe.models.registry.architectures import TLC_WINDOW, Network
from freezeframe.models.restorer.inference import restorer_model
from freezeframe.models.runtime.autotune import AutotuneConfig, build_backends, synthetic_image
from freezeframe.models.runtime.timing_cache import cache_key
from freezeframe.pipeline.training.restorer_models import ARCHITECTURES

ROUNDS = 3
OUTPUT_LAYERS = ("head", "heads", "ending", "output", "conv_last")  # names of the layers that make the change
MAX_CHANGE = 0.2  # largest residual of a network, encoded
MIN_SPEEDUP = 4.0  # required speed-up of the refiner on a CPU with AMX

Timed = tuple[float, float]
"""Wall time and CPU time in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One restorer."""

    name: str
    size: tuple[int, int]
    backend: str
    eager: Timed  # per megapixel
    fast: Timed
    max_difference: float  # largest difference, of 255


def candidates() -> dict[str, tuple[Callable[[], Network], tuple[int, int]]]:
    """By name: a function that builds the network, and height and width of the timed picture."""
    gopro = {"NAFNet width 32": nafnet.GOPRO_32, "NAFNet width 64": nafnet.GOPRO_64}
    return {
        "refiner": (
            lambda: _of(refiner.Refiner(refiner.NetConfig()), title="refiner", has_global_context=True),
            (720, 1280),
        ),
        **{
            name: (
                lambda config=config: _of(nafnet.NAFNet(config, window=TLC_WINDOW), title="NAFNet"),
                (256, 256),
            )
            for name, config in gopro.items()
        },
        "Restormer": (lambda: _of(restormer.Restormer(restormer.DEBLUR), title="Restormer"), (192, 192)),
        "SwinIR, noise": (lambda: _of(swinir.SwinIR(swinir.NetConfig()), title="SwinIR"), (128, 128)),
        "SwinIR, JPEG": (
            lambda: _of(swinir.SwinIR(swinir.NetConfig(window=7, value_range=255.0)), title="SwinIR"),
            (126, 126),
        ),
        "HAIR": (lambda: _of(hair.HAIR(hair.RELEASED), title="HAIR", has_global_context=True), (192, 192)),
        "dual transformers, 1 M": (
            lambda: _of(ARCHITECTURES["dual"](), title="dual transformers"),
            (256, 256),
        ),
    }


def _of(module: nn.Module, **facts: object) -> Network:
    """A network with random weights, also in zero layers, and with residuals as small as trained ones."""
    torch.manual_seed(0)
    for value in module.eval().requires_grad_(False).parameters():
        if not value.any():
            value.normal_(std=0.01)
    codes = _scene((64, 64))
    excess = float((module(codes) - codes).abs().max()) / MAX_CHANGE
    for name, part in module.named_children():
        if name in OUTPUT_LAYERS:
            for value in part.parameters():
                value.div_(excess)
    return Network(module=module, **facts)  # type: ignore[arg-type]


def time_restorer(name: str, network: Network, size: tuple[int, int]) -> Row:
    """Time the selected backend and plain fp32 eager, interleaved."""
    eager = copy.deepcopy(network.module)
    codes = _scene(size)
    autotune = AutotuneConfig(compile_after=0)  # no deferred compilation
    fastest = build_backends(restorer_model(network), device=torch.device("cpu"), config=autotune)[0]
    backend = fastest.with_context([codes])
    backend_name = backend.resolve(codes.shape).name

    def fast() -> Tensor:
        return backend(codes)

    def plain() -> Tensor:
        with torch.no_grad():
            answer: Tensor = eager(codes)
        return answer

    max_difference = 255 * float((fast() + codes - plain()).abs().max())
    megapixels = size[0] * size[1] / 1e6
    best = {run: (float("inf"), float("inf")) for run in (plain, fast)}
    for _ in range(ROUNDS):
        best = {run: _best_times(known, _time_run(run, megapixels)) for run, known in best.items()}
    return Row(
        name=name,
        size=size,
        backend=backend_name,
        eager=best[plain],
        fast=best[fast],
        max_difference=max_difference,
    )


def _time_run(run: Callable[[], Tensor], megapixels: float) -> Timed:
    start_time, cpu_start = time.perf_counter(), time.process_time()
    run()
    return (time.perf_counter() - start_time) / megapixels, (time.process_time() - cpu_start) / megapixels


def _best_times(one: Timed, other: Timed) -> Timed:
    return min(one[0], other[0]), min(one[1], other[1])


def _scene(size: tuple[int, int]) -> Tensor:
    height, width = (-(-side // 64) * 64 for side in size)
    return synthetic_image(height, width)[None, :, : size[0], : size[1]].contiguous()


def table(rows: list[Row]) -> str:
    lines = [
        "| | timed on | runs by | eager fp32, s per megapixel | as run | times as fast | by processor time"
        " | differs, of 255 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        clock, cpu_ratio = (a / b for a, b in zip(row.eager, row.fast, strict=True))
        lines.append(
            f"| {row.name} | {row.size[1]}x{row.size[0]} | {row.backend} | {row.eager[0]:.2f}"
            f" | {row.fast[0]:.2f} | {clock:.2f} | {cpu_ratio:.2f} | {row.max_difference:.2f} |"
        )
    return "\n".join(lines)


def machine() -> str:
    """Processor, versions, and whether it has matrix units."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    units = [name for name in ("amx_bf16", "avx512_bf16") if name in flags]
    processor_key = cache_key(nn.Identity(), torch.device("cpu"), []).rsplit(" | ", 1)[0]
    return f"{processor_key}; bf16 by {', '.join(units) or 'no instructions of its own'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", help="names of the table's first column")
    args = parser.parse_args([] if __name__ != "__main__" else None)
    print(f"{machine()}\n", flush=True)
    rows = []
    for name, (build_network, size) in candidates().items():
        if not args.only or name in args.only:
            rows.append(time_restorer(name, build_network(), size))
    print(table(rows))
    refiner_row = next((row for row in rows if row.name == "refiner"), None)
    if refiner_row and "amx_bf16" in machine():
        speed = refiner_row.eager[0] / refiner_row.fast[0]
        print(f"\nfloor for the refiner with AMX: {MIN_SPEEDUP:.0f} times; {speed:.2f} found")


if __name__ == "__main__":
    main()
