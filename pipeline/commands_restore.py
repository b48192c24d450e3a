"""`freezeframe restore`: arguments -> RestoreConfig -> pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .arguments import Codec, Device, Force, PrecisionOption, Quality, ReportFile, Strength
from .signals import what_is_kept
from .terminal import bar, errors, say

STOPPED = "Stopped. Finished photos are kept; rerun the same command to go on."


def restore(
    source: Annotated[Path, typer.Argument(help="A photo, a folder of photos, or a video.")],
    output: Annotated[Path, typer.Argument(help="A photo, a folder, or a video.")],
    model: Annotated[
        str, typer.Option(help="A name of `freezeframe models list`, a checkpoint, or auto.")
    ] = "auto",
    tile: Annotated[
        int | None, typer.Option(metavar="PX", help="Largest side of a piece; else what memory allows.")
    ] = None,
    strength: Strength = 1.0,
    codec: Codec = None,
    quality: Quality = None,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    force: Force = False,
    report: ReportFile = None,
) -> None:
    """Restore noisy, blocky or soft photos and videos, each picture by itself, with a network at hand."""
    with errors(stopped=STOPPED if source.is_dir() else what_is_kept(output)):
        from . import options
        from .restore import configure, table
        from .restore import restore as work

        config = configure(
            model=model, tile=tile, strength=strength, device=device, precision=precision,
            output={"codec": codec, "quality": quality, "force": force},
        )  # fmt: skip
        kept = options.writable({"--report": report}, inputs=[source], output=output, force=force)
        with bar(source.name, unit="part") as advance:
            done = work(source, output, config=config, progress=advance)
        say(table(done))
        typer.echo(output)
        body = {"restored": [each.to_dict() for each in done]}
        options.save_json(kept.get("--report"), body, beside=output)
        if any(each.status == "failed" or (each.plumbing and not each.plumbing.passed) for each in done):
            raise typer.Exit(1)
