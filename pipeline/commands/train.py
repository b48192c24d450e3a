"""The commands `freezeframe train multiframe`, `restorer`, `blur` and `shutter`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from freezeframe.pipeline.config import Arch

from .options import ADVANCED, Device, OutputOption
from .parser import Command, Group, output_of
from .terminal import answer, bar, errors, say

Told = dict[str, float]


class _Group(Group):
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
Out = Annotated[Path | None, typer.Argument(help="Folder for checkpoint, log and weights.")]
Size = Annotated[int, typer.Option(min=1, metavar="N", help="Patches per step and device.")]
Seed = Annotated[int, typer.Option(metavar="N", help="Of everything random.", rich_help_panel=ADVANCED)]
Every = Annotated[float, typer.Option(metavar="MINUTES", help="Minutes between validations and checkpoints.")]
Board = Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard logs into OUT too.")]


@app.command(cls=Command)
def multiframe(
    photos: Photos,
    out: Out = None,
    named: OutputOption = None,
    pairs: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Validation clips: */blur/*.png beside */sharp/*.png."),
    ] = None,
    steps: Annotated[
        int, typer.Option(min=1, metavar="N", help="Steps in all; a later call may raise it.")
    ] = 20000,
    size: Size = 16,
    width: Annotated[
        int, typer.Option(min=8, metavar="N", help="Channels at half size; doubled twice.")
    ] = 32,
    shards: Annotated[
        int, typer.Option(min=1, metavar="N", help="Of 16 rendered clips and 40 MB each.")
    ] = 400,
    workers: Annotated[
        int, typer.Option(min=0, metavar="N", help="Processes that make shards meanwhile.")
    ] = 1,
    start: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Weights to begin with; their width replaces --width (default: from scratch).",
        ),
    ] = None,
    pace: Annotated[float, typer.Option("--lr", "--pace", metavar="RATE", help="Peak learning rate.")] = 1e-3,
    every: Every = 5.0,
    seed: Annotated[
        int, typer.Option(min=0, max=600, metavar="N", help="Another one has other clips too.")
    ] = 0,
    device: Device = "auto",
    tensorboard: Board = False,
) -> None:
    """Train the network that finishes deconvolved frames; rerun the same command to resume."""
    with errors():
        target = output_of(out, named, folder=True)
    with _telling(target if tensorboard else None) as tell, bar("train", unit="step") as advance:
        from freezeframe.pipeline.training.fusion import TrainConfig, train
        from freezeframe.pipeline.training.fusion_data import SHARD_BYTES

        config = TrainConfig(
            steps=steps, size=size, width=width, shards=shards, workers=workers, start=start, pace=pace,
            every=every, seed=seed, device=device,
        )  # fmt: skip
        say(disk_text(target / "shards", shards * SHARD_BYTES, option="--shards"))
        weights = train(photos, target, pairs=pairs, config=config, progress=advance, tell=tell)
    answer(weights)


@app.command(cls=Command)
def restorer(
    photos: Photos,
    out: Out = None,
    named: OutputOption = None,
    arch: Annotated[Arch, typer.Option(help="All but refiner have a million parameters.")] = "refiner",
    judged: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Validation photos, by which the best weights are chosen."),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, metavar="N", help="Steps in all.")] = 10000,
    size: Size = 16,
    patch: Annotated[int, typer.Option(min=32, metavar="PX", help="Side of a patch.")] = 128,
    every: Every = 5.0,
    seed: Seed = 0,
    device: Device = "auto",
    tensorboard: Board = False,
) -> None:
    """Train a single-image restorer on synthetically degraded photos; rerun the same command to resume."""
    with errors():
        target = output_of(out, named, folder=True)
    with _telling(target if tensorboard else None) as tell, bar("train", unit="step") as advance:
        from freezeframe.pipeline.training.restorer import RestorerConfig, train_restorer

        config = RestorerConfig(
            arch=arch, steps=steps, size=size, patch=patch, every=every, seed=seed, device=device
        )
        weights = train_restorer(photos, target, judged=judged, config=config, progress=advance, tell=tell)
    answer(weights)


@app.command(cls=Command)
def blur(
    photos: Photos,
    out: Out = None,
    named: OutputOption = None,
    judged: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Validation photos.")] = None,
    steps: Annotated[int, typer.Option(min=1, metavar="N", help="Steps in all.")] = 2500,
    size: Size = 16,
    patch: Annotated[int, typer.Option(min=128, metavar="PX", help="Side of a patch.")] = 192,
    every: Every = 5.0,
    seed: Seed = 0,
    device: Device = "auto",
    tensorboard: Board = False,
) -> None:
    """Train the blur estimator of the refiner; rerun the same command to resume."""
    with errors():
        target = output_of(out, named, folder=True)
    with _telling(target if tensorboard else None) as tell, bar("train", unit="step") as advance:
        from freezeframe.data.synthesis.clips.clips import pictures_in
        from freezeframe.pipeline.training.loop import LoopConfig, learn
        from freezeframe.pipeline.training.psf_task import Blurs

        course = Blurs(pictures_in(photos), size, patch, seed, judged)
        config = LoopConfig(steps=steps, seed=seed, every=every, device=device)
        weights = learn(course, target, config=config, progress=advance, tell=tell)
    answer(weights)


@app.command(cls=Command)
def shutter(
    photos: Photos,
    out: Out = None,
    named: OutputOption = None,
    steps: Annotated[int, typer.Option(min=1, metavar="N", help="Steps in all.")] = 4000,
    size: Annotated[int, typer.Option(min=1, metavar="N", help="Frames per step and device.")] = 16,
    clips: Annotated[int, typer.Option(min=1, metavar="N", help="Rendered clips of 1 MB each.")] = 7000,
    every: Every = 5.0,
    seed: Seed = 0,
    device: Device = "auto",
    tensorboard: Board = False,
) -> None:
    """Train the shutter estimator; rerun the same command to resume."""
    with errors():
        target = output_of(out, named, folder=True)
    with _telling(target if tensorboard else None) as tell, bar("train", unit="step") as advance:
        from freezeframe.data.synthesis.clips.clips import pictures_in
        from freezeframe.pipeline.training.loop import LoopConfig, learn
        from freezeframe.pipeline.training.shutter_task import CLIP_BYTES, Shutters

        say(disk_text(target / "clips", clips * CLIP_BYTES, option="--clips"))
        course = Shutters(pictures_in(photos), target / "clips", size, clips, seed)
        config = LoopConfig(steps=steps, seed=seed, every=every, device=device)
        weights = learn(course, target, config=config, progress=advance, tell=tell)
    answer(weights)


@contextmanager
def _telling(folder: Path | None) -> Iterator[Callable[[Told], None]]:
    """Says every trial, and writes it for TensorBoard into `folder`; errors become sentences."""
    with errors(stopped="Stopped. Rerun the same command to resume from the last checkpoint, if any."):
        from freezeframe.pipeline.training.tensorboard import board

        boards = [board(folder)] if folder else []

        def tell(told: Told) -> None:
            say("  ".join(f"{name} {value:.3f}" for name, value in told.items()))
            for each in boards:
                each(told)

        yield tell


def disk_text(folder: Path, size: int, *, option: str) -> str:
    """How much of a disk a training will fill."""
    place = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(place).free
    return (
        f"{folder}: will take up to {size / 1e9:.1f} GB of disk ({free / 1e9:.1f} GB are free);"
        f" {option} makes it less"
    )
