"""`freezeframe restore`: arguments -> RestoreConfig -> pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from freezeframe.pipeline.support.signals import what_is_kept

from .options import (
    ADVANCED,
    Codec,
    Device,
    End,
    Force,
    OutputOption,
    PrecisionOption,
    Quality,
    ReportFile,
    SkipDamaged,
    Start,
    Strength,
)
from .parser import output_of
from .terminal import answer, bar, errors, say

STOPPED = "Stopped. Finished photos are kept; rerun the same command to resume."


def restore(
    source: Annotated[Path, typer.Argument(help="A photo, a folder of photos, or a video.")],
    output: Annotated[Path | None, typer.Argument(help="A photo, a folder, or a video.")] = None,
    named: OutputOption = None,
    model: Annotated[
        str,
        typer.Option(metavar="NAME", help="A name of `freezeframe models list`, a checkpoint, or auto."),
    ] = "auto",
    strength: Strength = 1.0,
    start: Start = None,
    end: End = None,
    tile: Annotated[
        int | None,
        typer.Option(
            metavar="PX",
            help="Largest side of a tile (default: what memory allows).",
            rich_help_panel=ADVANCED,
        ),
    ] = None,
    codec: Codec = None,
    quality: Quality = None,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    skip_damaged: SkipDamaged = False,
    force: Force = False,
    report: ReportFile = None,
) -> None:
    """Restore noisy, blocky or blurred photos and videos with a network, each picture by itself."""
    with errors():
        target = output_of(output, named)
    with errors(stopped=STOPPED if source.is_dir() else what_is_kept(target)):
        from freezeframe.pipeline.tasks.restore.run import configure, table
        from freezeframe.pipeline.tasks.restore.run import restore as work

        from . import build_config as options

        config = configure(
            model=model, tile=tile, strength=strength, device=device, precision=precision,
            output={
                "codec": codec, "quality": quality, "start": start, "end": end,
                "force": force, "skip_damaged": skip_damaged,
            },
        )  # fmt: skip
        kept = options.writable({"--report": report}, inputs=[source], output=target, force=force)
        with bar(source.name, unit="part") as advance:
            done = work(source, target, config=config, progress=advance)
        say(table(done))
        answer(target)
        body = {"restored": [each.to_dict() for each in done]}
        options.save_json(kept.get("--report"), body, beside=target)
        if any(each.status == "failed" or (each.plumbing and not each.plumbing.passed) for each in done):
            raise typer.Exit(1)
