"""Options shared by several commands: types, limits and help texts."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

import typer

MINUTES_PER_UNIT = {"s": 1 / 60, "m": 1.0, "h": 60.0}
MAX_DURATION_S = 10**7  # seconds, four months
MAX_FRAME_RATE = 10**6  # frames per second

OUTPUT, ADVANCED = "Output", "Advanced"  # panels of --help; other options are in the first one

CodecName = Literal["h264", "hevc", "av1", "prores", "ffv1"]
CODECS: dict[str, CodecName] = {
    **dict.fromkeys(("h264", "h.264", "x264", "libx264", "avc", "avc1"), "h264"),
    **dict.fromkeys(("hevc", "h265", "h.265", "x265", "libx265", "hvc1", "hev1"), "hevc"),
    **dict.fromkeys(("av1", "av01", "svtav1", "svt-av1", "libsvtav1", "libaom-av1"), "av1"),
    **dict.fromkeys(("prores", "prores_ks", "prores-ks", "apple-prores"), "prores"),
    "ffv1": "ffv1",
}


def parse_minutes(text: str) -> float:
    """`90s`, `10m`, `1.5h` in minutes."""
    parts = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if not parts or float(parts[1]) == 0:
        raise typer.BadParameter(f"{text!r} is not a duration; use e.g. 90s, 10m or 1h")
    return float(parts[1]) * MINUTES_PER_UNIT[parts[2]]


def parse_timestamp(text: str) -> float:
    """`12.5`, `1:30.5` or `1:02:03` in seconds."""
    parts = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?)", text.strip())
    if parts:
        hours, minute, second = (Fraction(part or "0") for part in parts.groups())
        total = 3600 * hours + 60 * minute + second
        if total <= MAX_DURATION_S and (not parts[2] or second < 60) and (not parts[1] or minute < 60):
            return float(total)
    raise typer.BadParameter(f"{text!r} is not a time; use seconds (12.5), mm:ss (1:30.5) or hh:mm:ss")


def parse_frame_rate(text: str) -> Fraction:
    """`25`, `29.97` or `30000/1001`, exactly."""
    if re.fullmatch(r"\d+(?:\.\d+)?|\d+/0*[1-9]\d*", text.strip()):
        rate = Fraction(text.strip())
        if 0 < rate <= MAX_FRAME_RATE:
            return rate
    raise typer.BadParameter(f"{text!r} is not a frame rate; use e.g. 25, 29.97 or 30000/1001")


def parse_number(text: str) -> float:
    """A finite number from 0 up."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise typer.BadParameter(f"{text!r} is not a number from 0 up; use e.g. 2.5")
    return value


def parse_codec(text: str) -> CodecName:
    """The name of a codec, also by the names of FFmpeg and of its encoders."""
    if (name := CODECS.get(text.strip().lower())) is None:
        raise typer.BadParameter(
            f"{text!r} is not a codec that can be written; use h264, hevc, av1, prores or ffv1"
        )
    return name


PresetName = Literal["auto", "sports"]
PresetOption = Annotated[
    PresetName,
    typer.Option(help="auto, or sports: one neighbour on either side.", rich_help_panel=ADVANCED),
]
Strength = Annotated[
    float, typer.Option(min=0, max=1, help="Blend with the input: 0 returns the input, 1 the full result.")
]
Device = Annotated[
    str, typer.Option(metavar="NAME", help="auto, cpu, cuda or cuda:N.", rich_help_panel=ADVANCED)
]
PrecisionOption = Annotated[
    Literal["auto", "fp32", "bf16", "fp16"],
    typer.Option(help="Number format of the networks.", rich_help_panel=ADVANCED),
]
BackendOption = Annotated[
    Literal["auto", "torch", "compile", "openvino"],
    typer.Option(
        help="Library that runs the networks (auto: the fastest, timed once). With --precision, results do"
        " not depend on earlier runs.",
        rich_help_panel=ADVANCED,
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="OUTPUT", help="The same as OUTPUT above.", rich_help_panel=OUTPUT
    ),
]
Force = Annotated[
    bool, typer.Option("--force", "-f", help="Replace an existing output.", rich_help_panel=OUTPUT)
]
Restorer = Annotated[
    Path | None,
    typer.Option(
        metavar="NAME",
        help="Single-image restorer to run after the multi-frame deblurring: a name of"
        " `freezeframe models list`, or a checkpoint.",
        rich_help_panel=ADVANCED,
    ),
]
ReportFile = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE", help="Write the full report as JSON.", rich_help_panel=OUTPUT),
]
Codec = Annotated[
    CodecName | None,
    typer.Option(
        parser=parse_codec, metavar="CODEC", rich_help_panel=OUTPUT,
        help="h264, hevc, av1, prores or ffv1 (default: the codec of the source).",
    ),
]  # fmt: skip
Quality = Annotated[
    float | None,
    typer.Option(
        parser=parse_number, metavar="CRF", rich_help_panel=OUTPUT,
        help="CRF, lower is better (default: visually lossless).",
    ),
]  # fmt: skip
Start = Annotated[
    float | None,
    typer.Option(
        parser=parse_timestamp, metavar="TIME", help="Begin at this time: seconds, mm:ss or hh:mm:ss."
    ),
]
End = Annotated[float | None, typer.Option(parser=parse_timestamp, metavar="TIME", help="Stop at this time.")]
FrameRate = Annotated[
    Fraction | None,
    typer.Option(
        "--fps", parser=parse_frame_rate, metavar="FPS",
        help="Frame rate of a folder of images (default: 24).",
    ),
]  # fmt: skip
Shutter = Annotated[
    float | None,
    typer.Option(
        min=0.01, max=1, metavar="FRACTION", rich_help_panel=ADVANCED,
        help="Exposure time over frame interval, if known: 180° is 0.5 (default: measured).",
    ),
]  # fmt: skip
Radius = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=3,
        metavar="N",
        rich_help_panel=ADVANCED,
        help="Neighbouring frames to use on either side (default: 2; 1 for the preset sports).",
    ),
]
MinBlur = Annotated[
    float | None,
    typer.Option(
        parser=parse_number, metavar="PX",
        help="Deblur what has more motion blur than this (default: height / 360 for a fast object and for"
        " most of the frame, height / 110 for a part of it, and 1 px at least); 0 deblurs all that moves.",
    ),
]  # fmt: skip
Iterations = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=100,
        metavar="N",
        rich_help_panel=ADVANCED,
        help="Deconvolution iterations (default: by blur length and noise).",
    ),
]
NetworkOption = Annotated[
    str,
    typer.Option(
        "--network", metavar="NAME", rich_help_panel=ADVANCED,
        help="bundled, none (deconvolution only), or a weights file from `freezeframe train fusion`.",
    ),
]  # fmt: skip
Adapt = Annotated[
    float,
    typer.Option(
        min=0,
        metavar="MINUTES",
        rich_help_panel=ADVANCED,
        help="Fine-tune the network on this clip first, for so many minutes (default: 0, off).",
    ),
]
Estimator = Annotated[
    Literal["dis", "kornia"],
    typer.Option(help="Estimator of the optical flow.", rich_help_panel=ADVANCED),
]
SkipDamaged = Annotated[
    bool,
    typer.Option(
        "--skip-damaged", help="Replace a damaged frame by its neighbour instead of stopping.",
        rich_help_panel=ADVANCED,
    ),
]  # fmt: skip
Budget = Annotated[
    float | None,
    typer.Option(
        parser=parse_minutes, metavar="TIME", help="Time limit for the whole command, e.g. 90s, 10m or 1h."
    ),
]
Splat = Annotated[
    Literal["off", "auto", "on"],
    typer.Option(
        help="Reconstruct a static scene from its blurred frames, minutes per window; auto: on a GPU only.",
        rich_help_panel=ADVANCED,
    ),
]
