"""`freezeframe batch`: the options of `freezeframe video`, for each clip of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from freezeframe.pipeline.commands.terminal.build_config import claim_outputs
from freezeframe.pipeline.commands.terminal.clip_options import ClipOptions
from freezeframe.pipeline.commands.terminal.options import Force, OutputOption, ReportFile
from freezeframe.pipeline.commands.terminal.output import errors, print_message, print_result, progress_bar
from freezeframe.pipeline.commands.terminal.parser import expand_option_groups, select_output
from freezeframe.pipeline.support.json_report import save_json

RESUME_NOTICE = "Stopped. Finished clips are kept; rerun the same command to resume."


@expand_option_groups
def batch(
    in_dir: Annotated[Path, typer.Argument(help="A folder of clips.")],
    clip: ClipOptions,
    out_dir: Annotated[
        Path | None, typer.Argument(help="A folder for the results, with the same sub-folders.")
    ] = None,
    output_option: OutputOption = None,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Include sub-folders.")] = False,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, metavar="N", help="Clips processed in parallel.")
    ] = 1,
    force: Force = False,
    report: ReportFile = None,
) -> None:  # fmt: skip
    """Sharpen every clip of a folder; skips finished clips and continues after failures.

    The options are those of `freezeframe video`, for each clip.
    """
    with errors(stopped=RESUME_NOTICE):
        from freezeframe.pipeline.tasks.batch import (
            collect_notes,
            find_jobs,
            format_results,
            run_batch,
            to_dict,
        )

        target = select_output(out_dir, output_option, folder=True)
        clip.config(force=force)  # an invalid option is invalid for every clip: report it once, and now
        clips = find_jobs(in_dir, target, recursive=recursive)
        claims = claim_outputs({"--report": report}, inputs=[job.source for job in clips], force=force)
        for note in collect_notes(clips, in_dir, target):
            print_message(f"note: {note}")
        with progress_bar(in_dir.name, unit="clip") as on_progress:
            on_progress(0, len(clips))
            results = run_batch(
                clips,
                options=clip.to_arguments(),
                workers=jobs,
                force=force,
                on_result=lambda _: on_progress(1, len(clips)),
            )
        save_json(claims.get("--report"), to_dict(results), main_output=target)
    print_result(format_results(results))
    if any(result.status == "failed" for result in results):
        raise typer.Exit(1)
