"""Every restorer as it is run here against its plain fp32 eager forward, side by side in one run.

Run: python -m benchmarks.speed.restorers   (about ten minutes on two cores; --only refiner for one)

Random weights of the published sizes: time does not depend on them. Runs alternate and the best of several
counts; processor time, which jobs of others disturb less, is given beside the clock's.
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
from freezeframe.models.registry.architectures import WINDOW, Network
from freezeframe.models.runtime.autotune import key_of, scenery
from freezeframe.models.runtime.backends import Fastest, ways_of
from freezeframe.pipeline.training.restorer_models import ARCHITECTURES

TURNS = 3
LAST = ("head", "heads", "ending", "output", "conv_last")  # names of the layers that make the change
CHANGE = 0.2  # codes; what a network adds at most
FLOOR = 4.0  # times, of the refiner on a processor with AMX

Timed = tuple[float, float]
"""Seconds by the clock, and of the processor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One restorer."""

    name: str
    size: tuple[int, int]
    engine: str
    eager: Timed  # per megapixel
    quick: Timed
    astray: float  # largest difference, of 255


def contestants() -> dict[str, tuple[Callable[[], Network], tuple[int, int]]]:
    """By name: how it is made, and height and width of what it is timed on."""
    gopro = {"NAFNet width 32": nafnet.GOPRO_32, "NAFNet width 64": nafnet.GOPRO_64}
    return {
        "refiner": (
            lambda: _of(refiner.Refiner(refiner.Layout()), title="refiner", shares=True),
            (720, 1280),
        ),
        **{
            name: (
                lambda layout=layout: _of(nafnet.NAFNet(layout, window=WINDOW), title="NAFNet"),
                (256, 256),
            )
            for name, layout in gopro.items()
        },
        "Restormer": (lambda: _of(restormer.Restormer(restormer.DEBLUR), title="Restormer"), (192, 192)),
        "SwinIR, noise": (lambda: _of(swinir.SwinIR(swinir.Layout()), title="SwinIR"), (128, 128)),
        "SwinIR, JPEG": (
            lambda: _of(swinir.SwinIR(swinir.Layout(window=7, value_range=255.0)), title="SwinIR"),
            (126, 126),
        ),
        "HAIR": (lambda: _of(hair.HAIR(hair.RELEASED), title="HAIR", shares=True), (192, 192)),
        "dual transformers, 1 M": (
            lambda: _of(ARCHITECTURES["dual"](), title="dual transformers"),
            (256, 256),
        ),
    }


def _of(module: nn.Module, **facts: object) -> Network:
    """Ready to run. What begins at zero draws numbers, and changes become as small as trained networks'."""
    torch.manual_seed(0)
    for value in module.eval().requires_grad_(False).parameters():
        if not value.any():
            value.normal_(std=0.01)
    codes = _scene((64, 64))
    excess = float((module(codes) - codes).abs().max()) / CHANGE
    for name, part in module.named_children():
        if name in LAST:
            for value in part.parameters():
                value.div_(excess)
    return Network(module=module, **facts)  # type: ignore[arg-type]


def measured(name: str, network: Network, size: tuple[int, int]) -> Row:
    """The way that is taken here beside plain fp32 eager, in turns."""
    eager = copy.deepcopy(network.module)
    codes = _scene(size)
    found = ways_of(network, device=torch.device("cpu"))[0]
    title = found.name()
    way = found.ways.get(title, found.exact) if isinstance(found, Fastest) else found

    def quick() -> Tensor:
        return way.settled([codes])(codes)

    def plain() -> Tensor:
        with torch.no_grad():
            answer: Tensor = eager(codes)
        return answer

    astray = 255 * float((quick() + codes - plain()).abs().max())
    share = size[0] * size[1] / 1e6
    best = {run: (float("inf"), float("inf")) for run in (plain, quick)}
    for _ in range(TURNS):
        best = {run: _least(known, _timed(run, share)) for run, known in best.items()}
    return Row(name=name, size=size, engine=title, eager=best[plain], quick=best[quick], astray=astray)


def _timed(run: Callable[[], Tensor], share: float) -> Timed:
    begun, worked = time.perf_counter(), time.process_time()
    run()
    return (time.perf_counter() - begun) / share, (time.process_time() - worked) / share


def _least(one: Timed, other: Timed) -> Timed:
    return min(one[0], other[0]), min(one[1], other[1])


def _scene(size: tuple[int, int]) -> Tensor:
    height, width = (-(-side // 64) * 64 for side in size)
    return scenery(height, width)[None, :, : size[0], : size[1]].contiguous()


def table(rows: list[Row]) -> str:
    lines = [
        "| | timed on | runs by | eager fp32, s per megapixel | as run | times as fast | by processor time"
        " | differs, of 255 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        clock, worked = (a / b for a, b in zip(row.eager, row.quick, strict=True))
        lines.append(
            f"| {row.name} | {row.size[1]}x{row.size[0]} | {row.engine} | {row.eager[0]:.2f}"
            f" | {row.quick[0]:.2f} | {clock:.2f} | {worked:.2f} | {row.astray:.2f} |"
        )
    return "\n".join(lines)


def machine() -> str:
    """Processor, versions, and whether it has matrix units."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    units = [name for name in ("amx_bf16", "avx512_bf16") if name in flags]
    told = key_of(nn.Identity(), torch.device("cpu"), []).rsplit(" | ", 1)[0]
    return f"{told}; bf16 by {', '.join(units) or 'no instructions of its own'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", help="names of the table's first column")
    given = parser.parse_args([] if __name__ != "__main__" else None)
    print(f"{machine()}\n", flush=True)
    rows = []
    for name, (made, size) in contestants().items():
        if not given.only or name in given.only:
            rows.append(measured(name, made(), size))
    print(table(rows))
    refined = next((row for row in rows if row.name == "refiner"), None)
    if refined and "amx_bf16" in machine():
        speed = refined.eager[0] / refined.quick[0]
        print(f"\nfloor for the refiner with AMX: {FLOOR:.0f} times; {speed:.2f} found")


if __name__ == "__main__":
    main()
