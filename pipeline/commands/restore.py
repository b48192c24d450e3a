"""`freezeframe restore`: arguments -> RestoreConfig -> pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from freezeframe.pipeline.commands.terminal.build_config import claim_outputs
from freezeframe.pipeline.commands.terminal.options import (
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
from freezeframe.pipeline.commands.terminal.output import errors, print_message, print_path, progress_bar
from freezeframe.pipeline.commands.terminal.parser import select_output
from freezeframe.pipeline.support.json_report import save_json
from freezeframe.pipeline.support.signals import interruption_message

RESUME_NOTICE = "Stopped. Finished photos are kept; rerun the same command to resume."


def restore(
    source: Annotated[Path, typer.Argument(help="A photo, a folder of photos, or a video.")],
    output: Annotated[Path | None, typer.Argument(help="A photo, a folder, or a video.")] = None,
    output_option: OutputOption = None,
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="A name of `freezeframe models list`, a checkpoint, or auto: by the degradation detected.",
        ),
    ] = "auto",
    strength: Strength = 1.0,
    start: Start = None,
    end: End = None,
    tile: Annotated[
        int | None,
        typer.Option(
            metavar="PX",
            help="Side of a tile (default: by free memory).",
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
    """Restore noisy, compressed or blurred photos and videos with a network, each picture by itself."""
    with errors():
        target = select_output(output, output_option)
    with errors(stopped=RESUME_NOTICE if source.is_dir() else interruption_message(target)):
        from freezeframe.pipeline.tasks.restore.config import configure, format_results, to_dict
        from freezeframe.pipeline.tasks.restore.run import restore as run_restore

        config = configure(
            model=model, tile=tile, strength=strength, device=device, precision=precision,
            backend=backend,
            output={
                "codec": codec, "quality": quality, "start": start, "end": end,
                "force": force, "skip_damaged": skip_damaged,
            },
        )  # fmt: skip
        claims = claim_outputs({"--report": report}, inputs=[source], output=target, force=force)
        with progress_bar(source.name, unit="part") as on_progress:
            results = run_restore(source, target, config=config, progress=on_progress)
        print_message(format_results(results))
        print_path(target)
        save_json(claims.get("--report"), to_dict(results), main_output=target)
        if any(
            result.status == "failed" or (result.verification and not result.verification.passed)
            for result in results
        ):
            raise typer.Exit(1)
