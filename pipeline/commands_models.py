"""`freezeframe models`: what restorers are known, which are here, and how others come here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .arguments import Device, Force, PrecisionOption
from .terminal import bar, errors, say

app = typer.Typer(no_args_is_help=False, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def models(context: typer.Context) -> None:
    """Restorers: the weights that come with the package, and those of others (list, info, add, fetch)."""
    if context.invoked_subcommand is None:
        with errors():
            from ..models.shipped import REFINER, WEIGHTS, card, verify

            for weights in filter(Path.is_file, (WEIGHTS, REFINER)):
                verify(weights)
                for name, value in card(weights).items():
                    typer.echo(f"{name}: {value}")


@app.command("list")
def list_() -> None:
    """Every restorer that is known: whether it is here, what it restores, its licence."""
    with errors():
        from .models import listing

        typer.echo(listing())


@app.command()
def info(
    name: Annotated[str, typer.Argument(help="A name of `freezeframe models list`, or a checkpoint.")],
    measure: Annotated[bool, typer.Option("--measure", help="Measure its speed on this machine.")] = False,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """What a restorer restores, its size, licence, and what it costs on this machine."""
    with errors():
        from .models import cost, cost_in_words, here, told_of

        for key, value in told_of(name).items():
            typer.echo(f"{key}: {value}")
        weights = here(name)
        if weights is not None:
            found = cost(weights, device=device, precision=precision, measure=measure)
            for key, value in cost_in_words(found).items():
                typer.echo(f"{key}: {value}")


@app.command()
def add(
    file: Annotated[Path, typer.Argument(help="A checkpoint: .safetensors, .pth, .pt or .ckpt.")],
    force: Force = False,
) -> None:
    """Copy a checkpoint that you have into freezeframe's folder, once it is recognised."""
    with errors():
        from .models import add as take_in

        weights, title = take_in(file, force=force)
        say(f"{title}; use it by: --model {weights.name}")
        typer.echo(weights.path)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="A name of `freezeframe models list`.")],
) -> None:
    """Download a restorer from where its authors published it; a broken download goes on where it broke."""
    with errors(stopped="Stopped. Rerun the same command to resume."):
        from ..models.fetch import fetch as download
        from .models import published

        release = published(name)
        if release.address:
            say(f"from {release.address}; licence: {release.licence}")
        with bar(name, unit="B") as advance:
            path = download(release, progress=advance)
        typer.echo(path)
