"""`freezeframe scene`: arguments -> Config -> pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from freezeframe.pipeline.support.signals import interruption_message

from .options import ADVANCED, Budget, Device, End, Estimator, Force, FrameRate, OutputOption, Shutter, Start
from .parser import select_output
from .terminal import errors, fit_progress, print_message, print_path, progress_bar, stage_progress


def scene(
    source: Annotated[Path, typer.Argument(help="A video of one scene, or a folder of photos.")],
    output: Annotated[
        Path | None, typer.Argument(help="A folder for the sharp frames, the scene and films of it.")
    ] = None,
    named: OutputOption = None,
    poses: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Camera poses: a COLMAP model or an LLFF folder.")
    ] = None,
    save_scene: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also keep the scene here: .ply, or .png of a panorama."),
    ] = None,
    subframes: Annotated[
        int, typer.Option(min=0, metavar="N", help="Slow motion: so many pictures inside each exposure.")
    ] = 0,
    evaluate: Annotated[
        bool, typer.Option("--eval", help="Evaluate on the held-out views of an LLFF folder.")
    ] = False,
    steps: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Steps of the fit (default: 800 without depth, 3000 with)."),
    ] = None,
    budget: Budget = None,
    start: Start = None,
    end: End = None,
    fps: FrameRate = None,
    shutter: Shutter = None,
    readout: Annotated[
        float,
        typer.Option(
            min=0, max=1, metavar="FRAMES", help="Rolling shutter: how much later the last row opens."
        ),
    ] = 0.0,
    gaussians: Annotated[
        int, typer.Option(min=100, metavar="N", help="Maximum number of Gaussians, in a scene with depth.")
    ] = 30_000,
    trajectory: Annotated[
        Literal["spline", "bezier"],
        typer.Option(
            help="One curve through all frames, or one for each (DeblurGS).", rich_help_panel=ADVANCED
        ),
    ] = "spline",
    densify: Annotated[
        Literal["mcmc", "gradient"], typer.Option(help="Densification strategy.", rich_help_panel=ADVANCED)
    ] = "mcmc",
    estimator: Estimator = "dis",
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Rebuild a static scene sharp from its own blur; frames, a model and films of it go into a folder."""
    with errors():
        target = select_output(output, named)
    with errors(stopped=interruption_message(target)):
        from freezeframe.pipeline.tasks.scene.fallback import FallbackResult
        from freezeframe.pipeline.tasks.scene.run import SceneOptions, rebuild

        from . import build_config as options

        config = options.configure(
            "auto",
            output={"start": start, "end": end, "rate": fps, "force": force},
            measure={"shutter": shutter, "estimator": estimator},
            splat={"steps": steps, "budget": budget, "readout": readout, "gaussians": gaussians,
                   "trajectory": trajectory, "densify": densify},
            strength=1.0, device=device, precision="auto", budget=budget,
        )  # fmt: skip
        scene_options = SceneOptions(subframes=subframes, scene=save_scene, poses=poses, evaluate=evaluate)
        with progress_bar(source.name) as meter:
            done = rebuild(
                source, target, config=config, scene_options=scene_options, on_progress=meter,
                on_prepare_progress=stage_progress(meter, "preparing"), on_fit_progress=fit_progress(meter),
                on_rejected=lambda why: print_message(f"No scene: {why}."),
            )  # fmt: skip
        print_message(
            done.outcome if isinstance(done, FallbackResult) else done.text()
        )  # the reason is told by now
        print_path(target)
        if isinstance(done, FallbackResult) and (save_scene or evaluate):
            raise typer.Exit(1)  # what was asked for by name is not there
