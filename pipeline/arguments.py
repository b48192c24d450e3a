"""Options that several commands share: their types, limits and words of help."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

UNITS = {"s": 1 / 60, "m": 1.0, "h": 60.0}


def minutes(words: str) -> float:
    """`90s`, `10m`, `1.5h` in minutes."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", words.strip())
    if not found or float(found[1]) == 0:
        raise typer.BadParameter(f"{words!r} is no time; write 90s, 10m or 1h")
    return float(found[1]) * UNITS[found[2]]


PresetName = Literal["auto", "sports", "handheld", "burst"]
PresetOption = Annotated[PresetName, typer.Option(help="A named starting point.")]
Strength = Annotated[float, typer.Option(min=0, max=1, help="0 leaves frames alone, 1 is full effect.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
PrecisionOption = Annotated[
    Literal["auto", "fp32", "bf16", "fp16"], typer.Option(help="Number format of the restorer.")
]
Arch = Literal["dual", "hair", "nafnet", "refiner", "restormer", "swinir"]  # of a restorer to train
Force = Annotated[bool, typer.Option("--force", help="Replace an existing output.")]
Restorer = Annotated[
    Path | None,
    typer.Option(
        help="Single-image restorer for the refine stage: a name of `models list`, or a checkpoint."
    ),
]
ReportFile = Annotated[Path | None, typer.Option("--report", help="Write the full report as JSON.")]
Codec = Annotated[
    Literal["h264", "hevc", "av1", "prores", "ffv1"] | None,
    typer.Option(help="Codec of the output; as the source unless given."),
]
Quality = Annotated[
    float | None,
    typer.Option(help="Rate factor of the codec, lower is better; else visually lossless."),
]
Shutter = Annotated[
    float | None,
    typer.Option(min=0.01, max=1, help="Exposure time over frame interval, where you know it."),
]
Radius = Annotated[
    int | None, typer.Option(min=0, max=3, help="Neighbouring frames looked at on either side.")
]
MinBlur = Annotated[
    float | None,
    typer.Option(min=0, metavar="PX", help="Work on frames blurred over so many pixels; else height / 150."),
]
Iterations = Annotated[int | None, typer.Option(min=1, max=100, help="Deconvolution steps; else by noise.")]
NetworkOption = Annotated[
    str, typer.Option("--network", help="shipped, none (physics alone), or weights from `freezeframe train`.")
]
Adapt = Annotated[
    float, typer.Option(min=0, metavar="MINUTES", help="Let the network learn from this clip first.")
]
Estimator = Annotated[Literal["dis", "kornia"], typer.Option(help="What measures the motion.")]
SkipDamaged = Annotated[
    bool, typer.Option("--skip-damaged", help="Repeat the neighbour of a damaged frame instead of stopping.")
]
Budget = Annotated[
    float | None,
    typer.Option(parser=minutes, metavar="TIME", help="Stop each fit of a scene after 90s, 10m, 1h."),
]
Splat = Annotated[
    Literal["off", "auto", "on"],
    typer.Option(help="Rebuild the static scene from its own blur, minutes a window; auto: on a GPU only."),
]
