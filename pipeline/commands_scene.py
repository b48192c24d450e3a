"""`freezeframe scene`: arguments -> Config -> pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from .arguments import Budget, Device, Estimator, Force, Shutter
from .terminal import bar, errors, fitting, say

STOPPED = "stopped; the same command goes on after the last checkpoint"


def scene(
    source: Annotated[Path, typer.Argument(help="A video of one scene, or a folder of photos.")],
    output: Annotated[Path, typer.Argument(help="A folder for the sharp frames, the scene and films of it.")],
    poses: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Camera poses: a COLMAP model or an LLFF folder.")
    ] = None,
    save_scene: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also keep the scene here: .ply, or .png of a panorama."),
    ] = None,
    subframes: Annotated[
        int, typer.Option(min=0, help="Slow motion: so many pictures inside each exposure.")
    ] = 0,
    evaluate: Annotated[
        bool, typer.Option("--eval", help="Judge on the held-out views of an LLFF folder.")
    ] = False,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Optimiser steps (default: 800, with depth 3000).")
    ] = None,
    budget: Budget = None,
    start: Annotated[float | None, typer.Option(min=0, help="Begin at this second.")] = None,
    end: Annotated[float | None, typer.Option(min=0, help="Stop at this second.")] = None,
    shutter: Shutter = None,
    readout: Annotated[
        float,
        typer.Option(min=0, max=1, help="Rolling shutter: how much later the last row opens, in frames."),
    ] = 0.0,
    gaussians: Annotated[
        int, typer.Option(min=100, help="Maximum number of Gaussians, in a scene with depth.")
    ] = 30_000,
    trajectory: Annotated[
        Literal["spline", "bezier"],
        typer.Option(help="One curve through all frames, or one for each (DeblurGS)."),
    ] = "spline",
    densify: Annotated[Literal["mcmc", "gradient"], typer.Option(help="Densification strategy.")] = "mcmc",
    estimator: Estimator = "dis",
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Rebuild a static scene sharp from its own blur; frames, a model and films of it go into a folder."""
    with errors(stopped=STOPPED):
        from . import options
        from .scene import SceneWish, rebuild
        from .scene_instead import Instead

        config = options.configure(
            "auto",
            output={"start": start, "end": end, "force": force},
            measure={"shutter": shutter, "estimator": estimator},
            splat={"steps": steps, "budget": budget, "readout": readout, "gaussians": gaussians,
                   "trajectory": trajectory, "densify": densify},
            strength=1.0, device=device, precision="auto",
        )  # fmt: skip
        wish = SceneWish(subframes=subframes, scene=save_scene, poses=poses, evaluate=evaluate)
        with (
            bar(f"{source.name}: preparing", unit="step") as prepare,
            fitting(source.name) as tell,
            bar(source.name) as advance,
        ):
            done = rebuild(
                source, output, config=config, wish=wish, tell=tell, prepare=prepare, advance=advance,
                refuse=lambda why: say(f"No scene: {why}."),
            )  # fmt: skip
        say(done.outcome if isinstance(done, Instead) else done.text())  # the reason is told by now
        typer.echo(output)
        if isinstance(done, Instead) and (save_scene or evaluate):
            raise typer.Exit(1)  # what was asked for by name is not there
