"""`freezeframe bench`: scores on pairs with ground truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from freezeframe.pipeline.commands.terminal.build_config import configure
from freezeframe.pipeline.commands.terminal.build_config import network as network_field
from freezeframe.pipeline.commands.terminal.options import OUTPUT, Device, Force, NetworkOption
from freezeframe.pipeline.commands.terminal.output import errors, print_message, print_path, progress_bar

SetName = Literal["gopro", "gopro-gamma", "dvd", "bsd", "reds", "realblur-j", "realblur-r", "hide", "kohler"]


def bench(
    blurred: Annotated[
        Path, typer.Argument(help="Folder of blurred frames or of sequences; or a whole dataset.")
    ],
    truth: Annotated[
        Path | None, typer.Argument(help="The sharp frames under the same names; not with --set.")
    ] = None,
    set_: Annotated[
        SetName | None,
        typer.Option("--set", metavar="NAME", help="BLURRED is this dataset, as it was unpacked: gopro,"
                     " gopro-gamma, dvd, bsd, reds, realblur-j, realblur-r, hide or kohler."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Split of the dataset (default: the one its authors report)."),
    ] = None,
    photos: Annotated[
        bool, typer.Option("--photos", help="The pictures are single photos, not frames of a clip.")
    ] = False,
    restorer: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Checkpoint to benchmark too, by itself.")
    ] = None,
    network: NetworkOption = "bundled",
    out: Annotated[
        Path,
        typer.Option(
            "--output", "-o", "--out", metavar="FOLDER", rich_help_panel=OUTPUT,
            help="Folder for the table, the JSON file and the compare page.",
        ),
    ] = Path("freezeframe-bench"),
    device: Device = "auto",
    force: Force = False,
) -> None:  # fmt: skip
    """Score freezeframe on blurred/sharp pairs and compare it with simple baselines."""
    with errors():
        from freezeframe.pipeline.bench.methods import methods_for
        from freezeframe.pipeline.bench.run import bench as run_bench
        from freezeframe.pipeline.bench.run import claim_results, open_pairs

        claims = claim_results(out, inputs=[blurred, *([truth] if truth else [])], force=force)
        pairs = open_pairs(blurred, truth, name=set_, split=split, photos=photos)
        config = configure(
            "auto", fuse={"network": network_field(network)}, strength=1.0, device=device, precision="auto"
        )
        with progress_bar("bench") as on_progress:
            benchmark = run_bench(pairs, methods_for(config, restorer=restorer), progress=on_progress)
        benchmark.save(claims)
        print_message(benchmark.text())
        print_path(out / "compare.html")
