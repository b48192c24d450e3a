"""The command line: arguments -> Config -> pipeline. It offers nothing that the library does not."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ == "__main__" and not __package__:
    # `python cli.py`: without this the sub-packages beside this file would become top-level modules.
    import importlib.util

    _root = Path(__file__).resolve().parent
    sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != _root]
    _spec = importlib.util.spec_from_file_location(
        "freezeframe", _root / "__init__.py", submodule_search_locations=[str(_root)]
    )
    if _spec is None or _spec.loader is None:
        raise SystemExit(f"{_root}: holds no freezeframe package; clone the repository again")
    _package = importlib.util.module_from_spec(_spec)
    sys.modules["freezeframe"] = _package
    _spec.loader.exec_module(_package)
    __package__ = "freezeframe"

    from freezeframe.pipeline.support.signals import install_handlers

    install_handlers()  # before the slow imports

from typing import Annotated

import typer

from freezeframe.pipeline.commands import models, train
from freezeframe.pipeline.commands.batch import batch
from freezeframe.pipeline.commands.bench import bench
from freezeframe.pipeline.commands.burst import burst
from freezeframe.pipeline.commands.demo import demo
from freezeframe.pipeline.commands.doctor import doctor
from freezeframe.pipeline.commands.export import export
from freezeframe.pipeline.commands.probe import probe
from freezeframe.pipeline.commands.restore import restore
from freezeframe.pipeline.commands.scene import scene
from freezeframe.pipeline.commands.terminal.parser import Command, Commands
from freezeframe.pipeline.commands.video import video

from . import __version__

app = typer.Typer(
    name="freezeframe",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _show_version(requested: bool) -> None:
    if requested:
        typer.echo(f"freezeframe {__version__}")
        raise typer.Exit


@app.callback()
def freezeframe(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Removes motion blur from video clips and photo bursts, and leaves everything else as it was."""


for command in (video, burst, restore, scene, batch, probe, demo, bench, export, doctor):
    app.command(cls=Command)(command)
app.add_typer(models.app, name="models")
app.add_typer(train.app, name="train")


def main() -> None:
    """Entry point of the `freezeframe` command."""
    # Threads that wait for work must sleep: where the cores are shared, spinning ones double every time.
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    app()


if __name__ == "__main__":
    main()
