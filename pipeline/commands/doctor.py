"""`freezeframe doctor`: whether the installation works."""

from __future__ import annotations

import typer

from freezeframe.pipeline.commands.terminal.output import errors, print_result


def doctor() -> None:
    """Show versions, devices and codecs, and run a self-check that blurs and restores a generated clip."""
    with errors():
        from freezeframe.pipeline.tasks.doctor import check_installation

        text, healthy = check_installation()
        print_result(text)
        if not healthy:
            raise typer.Exit(2)
