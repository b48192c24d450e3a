"""`freezeframe export`: the fusion network as an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from freezeframe.pipeline.commands.terminal.options import Force, OutputOption
from freezeframe.pipeline.commands.terminal.output import errors, print_message, print_path
from freezeframe.pipeline.commands.terminal.parser import select_output


def export(
    output: Annotated[Path | None, typer.Argument(help="The .onnx file to write.")] = None,
    output_option: OutputOption = None,
    weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Weights from `freezeframe train` (default: the bundled ones)."),
    ] = None,
    size: Annotated[tuple[int, int], typer.Option(metavar="WIDTH HEIGHT", help="Size of the frames.")] = (
        1280,
        720,
    ),
    force: Force = False,
) -> None:
    """Write the fusion network as an ONNX file and check its output against PyTorch's."""
    with errors():
        from freezeframe.models.registry.bundled import WEIGHTS, read_network
        from freezeframe.models.runtime.onnx_export import export_onnx

        target = select_output(output, output_option)
        network = read_network(weights or WEIGHTS)
        print_message(export_onnx(network, target, size=size[::-1], force=force))
        print_path(target)
