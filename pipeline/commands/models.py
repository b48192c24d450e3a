"""`freezeframe models`: known restorers, the installed ones, and how to install others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from freezeframe.pipeline.commands.terminal.options import Device, Force, PrecisionOption
from freezeframe.pipeline.commands.terminal.output import (
    errors,
    print_message,
    print_path,
    print_result,
    progress_bar,
)
from freezeframe.pipeline.commands.terminal.parser import Command, Group

app = typer.Typer(cls=Group, no_args_is_help=False, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def models(context: typer.Context) -> None:
    """List, describe, add and download restorers; alone, show the model cards of the bundled weights."""
    if context.invoked_subcommand is None:
        with errors():
            from freezeframe.models.registry.bundled import REFINER, WEIGHTS, card, verify

            for weights in filter(Path.is_file, (WEIGHTS, REFINER)):
                verify(weights)
                for name, value in card(weights).items():
                    print_result(f"{name}: {value}")


@app.command("list", cls=Command)
def list_() -> None:
    """List every known restorer: whether it is installed, its task, its licence."""
    with errors():
        from freezeframe.pipeline.tasks.restore.model_info import format_listing

        print_result(format_listing())


@app.command(cls=Command)
def info(
    name: Annotated[str, typer.Argument(help="A name of `freezeframe models list`, or a checkpoint.")],
    measure: Annotated[bool, typer.Option("--measure", help="Measure its speed on this machine.")] = False,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Show the task, size and licence of a restorer, and its memory and time on this machine."""
    with errors():
        from freezeframe.pipeline.tasks.restore.model_info import cost, describe, find_installed, format_cost

        for key, value in describe(name).items():
            print_result(f"{key}: {value}")
        weights = find_installed(name)
        if weights is not None:
            network_cost = cost(weights, device=device, precision=precision, measure=measure)
            for key, value in format_cost(network_cost).items():
                print_result(f"{key}: {value}")


@app.command(cls=Command)
def add(
    file: Annotated[Path, typer.Argument(help="A checkpoint: .safetensors, .pth, .pt or .ckpt.")],
    force: Force = False,
) -> None:
    """Copy a checkpoint of your own into freezeframe's folder, if its architecture is recognised."""
    with errors():
        from freezeframe.pipeline.tasks.restore.model_info import add as add_checkpoint

        weights, title = add_checkpoint(file, force=force)
        print_message(f"{title}; use it with: --model {weights.name}")
        print_path(weights.path)


@app.command(cls=Command)
def fetch(
    name: Annotated[str, typer.Argument(help="A name of `freezeframe models list`.")],
) -> None:
    """Download a restorer from its authors' site; an interrupted download is resumed."""
    with errors(stopped="Stopped. Rerun the same command to resume the download."):
        from freezeframe.models.store.download import fetch as download
        from freezeframe.pipeline.tasks.restore.model_info import find_published

        release = find_published(name)
        if release.url:
            print_message(f"downloading {release.url}; licence: {release.licence}")
        with progress_bar(name, unit="B") as on_progress:
            path = download(release, progress=on_progress)
        print_path(path)
