"""`freezeframe video`: arguments -> Config -> pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from freezeframe.pipeline.commands.terminal.build_config import claim_outputs
from freezeframe.pipeline.commands.terminal.clip_options import ClipOptions
from freezeframe.pipeline.commands.terminal.options import OUTPUT, Force, OutputOption, ReportFile
from freezeframe.pipeline.commands.terminal.output import errors, print_message, print_path, progress_bar
from freezeframe.pipeline.commands.terminal.parser import expand_option_groups, select_output
from freezeframe.pipeline.support.json_report import save_json
from freezeframe.pipeline.support.signals import interruption_message


@expand_option_groups
def video(
    source: Annotated[Path, typer.Argument(help="A video file or a folder of numbered images.")],
    clip: ClipOptions,
    output: Annotated[
        Path | None, typer.Argument(help="A video file, or a folder for numbered images.")
    ] = None,
    output_option: OutputOption = None,
    force: Force = False,
    report: ReportFile = None,
    confidence_maps: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", rich_help_panel=OUTPUT,
            help="Write for each changed frame a PNG that says per pixel how much is copied (red),"
            " deconvolved (green) and reconstructed (blue).",
        ),
    ] = None,
    json_: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE", rich_help_panel=OUTPUT,
            help="Write the verification of the output (audio, timestamps, tags) as JSON.",
        ),
    ] = None,
) -> None:  # fmt: skip
    """Sharpen a clip. Interrupt it at any time and rerun the same command to resume."""
    with errors():
        target = select_output(output, output_option)
    with errors(stopped=interruption_message(target)):
        config = clip.config(force=force)
        claims = claim_outputs(
            {"--report": report, "--json": json_}, inputs=[source], output=target,
            folders={"--confidence-maps": confidence_maps}, force=force,
        )  # fmt: skip
        from freezeframe.pipeline.tasks.video import deblur_video

        with progress_bar(source.name) as on_progress:
            result = deblur_video(
                source, target, config=config, confidence_maps=confidence_maps,
                progress=on_progress, on_message=print_message,
            )  # fmt: skip
        verification = result.verification
        print_message(result.text())
        if verification:
            print_message(verification.text())
        print_path(target)
        save_json(claims.get("--report"), result.to_dict(), main_output=target)
        save_json(claims.get("--json"), verification.to_dict() if verification else {}, main_output=target)
        if verification and not verification.passed:
            print_message(f"freezeframe: {target}: written, but its verification failed; see FAIL above")
            raise typer.Exit(1)
