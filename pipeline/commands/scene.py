"""The command `freezeframe scene`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from freezeframe.pipeline.commands.terminal.options import (
    ADVANCED,
    Budget,
    Device,
    End,
    Estimator,
    Force,
    FrameRate,
    OutputOption,
    Shutter,
    Start,
)
from freezeframe.pipeline.commands.terminal.output import (
    errors,
    fit_progress,
    print_message,
    print_path,
    progress_bar,
    stage_progress,
)
from freezeframe.pipeline.commands.terminal.parser import select_output
from freezeframe.pipeline.support.signals import interruption_message


def scene(
    source: Annotated[Path, typer.Argument(help="Video of one static scene, or folder of photos.")],
    output: Annotated[
        Path | None, typer.Argument(help="Folder for the deblurred frames, the scene and renderings of it.")
    ] = None,
    output_option: OutputOption = None,
    poses: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Camera poses: COLMAP model or LLFF folder.")
    ] = None,
    save_scene: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Also write the scene here: .ply for Gaussians, .png for a panorama."
        ),
    ] = None,
    subframes: Annotated[
        int, typer.Option(min=0, metavar="N", help="Also write slow motion with N images per exposure.")
    ] = 0,
    evaluate: Annotated[
        bool, typer.Option("--eval", help="Report metrics on the held-out views of an LLFF or COLMAP folder.")
    ] = False,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Optimiser steps (default: 800 for a panorama, 3000 for Gaussians)."
        ),
    ] = None,
    budget: Budget = None,
    start: Start = None,
    end: End = None,
    fps: FrameRate = None,
    shutter: Shutter = None,
    readout: Annotated[
        float,
        typer.Option(
            min=0, max=1, metavar="FRAMES", help="Rolling shutter: frame intervals from first to last row."
        ),
    ] = 0.0,
    gaussians: Annotated[
        int, typer.Option(min=100, metavar="N", help="Maximum number of Gaussians.")
    ] = 30_000,
    trajectory: Annotated[
        Literal["spline", "bezier"],
        typer.Option(
            help="One spline through all frames, or one Bézier curve per frame (DeblurGS).",
            rich_help_panel=ADVANCED,
        ),
    ] = "spline",
    densify: Annotated[
        Literal["mcmc", "gradient"], typer.Option(help="Densification strategy.", rich_help_panel=ADVANCED)
    ] = "mcmc",
    estimator: Estimator = "dis",
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Rebuild a static scene from its blurred frames: deblurred frames, a 3D scene and renderings of it."""
    with errors():
        target = select_output(output, output_option)
    with errors(stopped=interruption_message(target)):
        from freezeframe.pipeline.tasks.scene.fallback import FallbackResult
        from freezeframe.pipeline.tasks.scene.run import SceneCallbacks, SceneOptions, rebuild

        from .terminal import build_config as options

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
            callbacks = SceneCallbacks(
                on_fit_progress=fit_progress(meter),
                on_prepare_progress=stage_progress(meter, "preparing"),
                on_progress=meter,
                on_rejected=lambda reason: print_message(f"No scene: {reason}."),
            )
            result = rebuild(source, target, config=config, scene_options=scene_options, callbacks=callbacks)
        print_message(result.summary if isinstance(result, FallbackResult) else result.format_text())
        print_path(target)
        if isinstance(result, FallbackResult) and (save_scene or evaluate):
            raise typer.Exit(1)  # an explicitly requested result does not exist
