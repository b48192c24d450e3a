"""`freezeframe probe`: the diagnosis of a clip or photo, as text, JSON and a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from freezeframe.pipeline.commands.terminal.build_config import claim_outputs
from freezeframe.pipeline.commands.terminal.options import Force
from freezeframe.pipeline.commands.terminal.output import errors, print_result, progress_bar
from freezeframe.pipeline.support.json_report import save_json


def probe(
    source: Annotated[Path, typer.Argument(help="A video file, a folder of images, or a photo.")],
    json_: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the diagnosis as JSON.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Plot blur and sharpness over time and the blur vectors (.png, .svg, .pdf)."
        ),
    ] = None,
    stride: Annotated[int, typer.Option(min=1, metavar="N", help="Diagnose every N-th frame.")] = 5,
    force: Force = False,
) -> None:
    """Diagnose before any work which frames are blurred, how far, in which direction and why."""
    with errors():
        claims = claim_outputs({"--json": json_}, inputs=[source], output=plot, force=force)
        from freezeframe.pipeline.tasks.probe.run import probe as diagnose

        with progress_bar(source.name) as on_progress:
            diagnosis = diagnose(source, stride=stride, plot=plot, force=force, progress=on_progress)
        save_json(claims.get("--json"), diagnosis.to_dict())
        print_result(diagnosis.text())
