"""`freezeframe restore`: arguments -> RestoreConfig -> pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from freezeframe.pipeline.support.signals import interruption_message

from .options import (
    ADVANCED,
    BackendOption,
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
from .parser import select_output
from .terminal import errors, print_message, print_path, progress_bar

RESUME_NOTICE = "Stopped. Finished photos are kept; rerun the same command to resume."


def restore(
    source: Annotated[Path, typer.Argument(help="A photo, a folder of photos, or a video.")],
    output: Annotated[Path | None, typer.Argument(help="A photo, a folder, or a video.")] = None,
    output_option: OutputOption = None,
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
    backend: BackendOption = "auto",
    skip_damaged: SkipDamaged = False,
    force: Force = False,
    report: ReportFile = None,
) -> None:
    """Restore noisy, blocky or blurred photos and videos with a network, each picture by itself."""
    with errors():
        target = select_output(output, output_option)
    with errors(stopped=RESUME_NOTICE if source.is_dir() else interruption_message(target)):
        from freezeframe.pipeline.tasks.restore.run import configure, table
        from freezeframe.pipeline.tasks.restore.run import restore as run_restore

        from . import build_config as options

        config = configure(
            model=model, tile=tile, strength=strength, device=device, precision=precision,
            backend=backend,
            output={
                "codec": codec, "quality": quality, "start": start, "end": end,
                "force": force, "skip_damaged": skip_damaged,
            },
        )  # fmt: skip
        claims = options.claim_outputs({"--report": report}, inputs=[source], output=target, force=force)
        with progress_bar(source.name, unit="part") as on_progress:
            results = run_restore(source, target, config=config, progress=on_progress)
        print_message(table(results))
        print_path(target)
        body = {"restored": [result.to_dict() for result in results]}
        options.save_json(claims.get("--report"), body, main_output=target)
        if any(
            result.status == "failed" or (result.verification and not result.verification.passed)
            for result in results
        ):
            raise typer.Exit(1)
