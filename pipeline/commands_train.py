"""The commands `freezeframe train multiframe`, `restorer`, `blur` and `shutter`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .arguments import Arch, Device
from .terminal import bar, errors, say

Told = dict[str, float]


class _Group(TyperGroup):
    """`freezeframe train PHOTOS OUT`, from when there was one network to train, still trains that one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, "--help"}:
            args = ["multiframe", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    help="Train a network: `multiframe` (taken where none is named), `restorer`, `blur` or `shutter`.",
)

Photos = Annotated[Path, typer.Argument(help="Folder of photos and videos to cut pictures from.")]
Out = Annotated[Path, typer.Argument(help="Folder for checkpoint, log and weights.")]
Size = Annotated[int, typer.Option(min=1, help="Patches per step and device.")]
Every = Annotated[float, typer.Option(help="Minutes between trials and checkpoints.")]
Board = Annotated[bool, typer.Option("--tensorboard", help="Write its logs into OUT too.")]


@app.command()
def multiframe(
    photos: Photos,
    out: Out,
    pairs: Annotated[
        Path | None, typer.Option(help="Real clips to steer by: */blur/*.png beside */sharp/*.png.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps in all; a later call may raise it.")] = 20000,
    size: Size = 16,
    width: Annotated[int, typer.Option(min=8, help="Channels at half size; doubled twice.")] = 32,
    shards: Annotated[int, typer.Option(min=1, help="Of 16 clips and 40 MB each, to draw from.")] = 400,
    workers: Annotated[int, typer.Option(min=0, help="Processes that make shards meanwhile.")] = 1,
    start: Annotated[
        Path | None, typer.Option(help="Weights to begin with (`--width` is theirs); else from scratch.")
    ] = None,
    pace: Annotated[float, typer.Option(help="Learning rate, at its highest.")] = 1e-3,
    every: Every = 5.0,
    seed: Annotated[int, typer.Option(min=0, max=600, help="Another one has other clips too.")] = 0,
    device: Device = "auto",
    tensorboard: Board = False,
) -> None:
    """Train the network that finishes deconvolved frames; the same command goes on where it stopped."""
    with _telling(out if tensorboard else None) as tell, bar("train", unit="step") as advance:
        from .train import TrainConfig, train

        config = TrainConfig(
            steps=steps, size=size, width=width, shards=shards, workers=workers, start=start, pace=pace,
            every=every, seed=seed, device=device,
        )  # fmt: skip
        weights = train(photos, out, pairs=pairs, config=config, progress=advance, tell=tell)
    typer.echo(weights)


@app.command()
def restorer(
    photos: Photos,
    out: Out,
    arch: Annotated[Arch, typer.Option(help="All but refiner have a million parameters.")] = "refiner",
    judged: Annotated[
        Path | None, typer.Option(help="Other photos, to say how good it is and choose the best weights by.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps in all.")] = 10000,
    size: Size = 16,
    patch: Annotated[int, typer.Option(min=32, help="Pixels of a patch's side.")] = 128,
    every: Every = 5.0,
    seed: int = 0,
    device: Device = "auto",
    tensorboard: Board = False,
) -> None:
    """Train a restorer of single pictures on photos made worse; the same command goes on where it stopped."""
    with _telling(out if tensorboard else None) as tell, bar("train", unit="step") as advance:
        from .train_restorer import RestorerConfig, train_restorer

        config = RestorerConfig(
            arch=arch, steps=steps, size=size, patch=patch, every=every, seed=seed, device=device
        )
        weights = train_restorer(photos, out, judged=judged, config=config, progress=advance, tell=tell)
    typer.echo(weights)


@app.command()
def blur(
    photos: Photos,
    out: Out,
    judged: Annotated[Path | None, typer.Option(help="Other photos, to say how often it is right.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps in all.")] = 2500,
    size: Size = 16,
    patch: Annotated[int, typer.Option(min=128, help="Pixels of a patch's side.")] = 192,
    every: Every = 5.0,
    seed: int = 0,
    device: Device = "auto",
    tensorboard: Board = False,
) -> None:
    """Train what tells the refiner how a picture was blurred; the same command goes on where it stopped."""
    with _telling(out if tensorboard else None) as tell, bar("train", unit="step") as advance:
        from ..data.synth_clips import pictures_in
        from .blur_course import Blurs
        from .training_loop import LoopConfig, learn

        course = Blurs(pictures_in(photos), size, patch, seed, judged)
        config = LoopConfig(steps=steps, seed=seed, every=every, device=device)
        weights = learn(course, out, config=config, progress=advance, tell=tell)
    typer.echo(weights)


@app.command()
def shutter(
    photos: Photos,
    out: Out,
    steps: Annotated[int, typer.Option(min=1, help="Steps in all.")] = 4000,
    size: Annotated[int, typer.Option(min=1, help="Frames per step and device.")] = 16,
    clips: Annotated[int, typer.Option(min=1, help="Of 1 MB each, to draw from.")] = 7000,
    every: Every = 5.0,
    seed: int = 0,
    device: Device = "auto",
    tensorboard: Board = False,
) -> None:
    """Train what reads the shutter off moving pictures; the same command goes on where it stopped."""
    with _telling(out if tensorboard else None) as tell, bar("train", unit="step") as advance:
        from ..data.synth_clips import pictures_in
        from .shutter_course import Shutters
        from .training_loop import LoopConfig, learn

        course = Shutters(pictures_in(photos), out / "clips", size, clips, seed)
        config = LoopConfig(steps=steps, seed=seed, every=every, device=device)
        weights = learn(course, out, config=config, progress=advance, tell=tell)
    typer.echo(weights)


@contextmanager
def _telling(folder: Path | None) -> Iterator[Callable[[Told], None]]:
    """Says every trial, and writes it for TensorBoard into `folder`; errors become sentences."""
    with errors(stopped="Stopped. Rerun the same command to resume from the last checkpoint, if any."):
        from .training_board import board

        boards = [board(folder)] if folder else []

        def tell(told: Told) -> None:
            say("  ".join(f"{name} {value:.3f}" for name, value in told.items()))
            for each in boards:
                each(told)

        yield tell
