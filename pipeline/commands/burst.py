"""`freezeframe burst`: arguments -> Config -> pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from freezeframe.pipeline.commands.terminal.build_config import configure
from freezeframe.pipeline.commands.terminal.options import (
    BackendOption,
    Device,
    Force,
    PrecisionOption,
    Restorer,
    Strength,
)
from freezeframe.pipeline.commands.terminal.output import errors, print_message, print_path, progress_bar


def burst(
    images: Annotated[list[Path], typer.Argument(help="Two or more photos of one scene, in order.")],
    out: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            "--out",
            metavar="PHOTO",
            help="The photo to write; its suffix selects the format.",
        ),
    ],
    strength: Strength = 1.0,
    restorer: Restorer = None,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    backend: BackendOption = "auto",
    force: Force = False,
) -> None:
    """Merge a burst of blurred photos into one sharp photo. The sharpest of them is the reference."""
    with errors():
        from freezeframe.pipeline.tasks.burst import deblur_burst

        config = configure(
            "auto", output={"force": force}, refine={"checkpoint": restorer},
            strength=strength, device=device, precision=precision, backend=backend,
        )  # fmt: skip
        with progress_bar("burst", unit="step") as on_progress:
            result = deblur_burst(images, out, config=config, progress=on_progress)
        print_message(f"reference {result.reference}; mean confidence {float(result.confidence.mean()):.2f}")
        print_path(result.output)
