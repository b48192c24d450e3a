"""`freezeframe demo`: the sample clips and burst, deblurred."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from freezeframe.pipeline.commands.terminal.options import Force
from freezeframe.pipeline.commands.terminal.output import errors, print_result, progress_bar


def demo(
    clip: Annotated[
        Path | None, typer.Option(metavar="CLIP", help="Your own clip instead of the samples.")
    ] = None,
    out: Annotated[
        Path, typer.Option("--output", "-o", "--out", metavar="FOLDER", help="Folder for the results.")
    ] = Path("freezeframe-demo"),
    force: Force = False,
) -> None:
    """Sharpen the sample clips and the sample burst of the package, and print the gain in PSNR and SSIM."""
    with errors():
        from freezeframe.pipeline.tasks.demo import demo as run_demo

        with progress_bar("demo") as on_progress:
            text = run_demo(clip, out, force=force, progress=on_progress)
        print_result(text)
