"""The commands `freezeframe train fusion`, `restorer`, `psf`, `blur-field` and `shutter`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from freezeframe.pipeline.commands.terminal.options import ADVANCED, Device, OutputOption
from freezeframe.pipeline.commands.terminal.output import errors, print_message, print_path, progress_bar
from freezeframe.pipeline.commands.terminal.parser import Command, Group, select_output
from freezeframe.pipeline.config import Arch
from freezeframe.pipeline.support.progress import ProgressCallback

Metrics = dict[str, float]

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    help="Train a network: `fusion`, `restorer`, `psf`, `blur-field` or `shutter`.",
)

Photos = Annotated[Path, typer.Argument(help="Folder of photos and videos to crop training pictures from.")]
OutputFolder = Annotated[Path | None, typer.Argument(help="Folder for checkpoint, log and weights.")]
BatchSize = Annotated[int, typer.Option(min=1, metavar="N", help="Patches per step and device.")]
Seed = Annotated[int, typer.Option(metavar="N", help="Seed of all random numbers.", rich_help_panel=ADVANCED)]
ValInterval = Annotated[
    float, typer.Option(metavar="MINUTES", help="Minutes between validations and checkpoints.")
]
TensorBoardOption = Annotated[
    bool, typer.Option("--tensorboard", help="Write TensorBoard logs into OUT too.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Session:
    """Folder and callbacks of one training."""

    folder: Path
    progress: ProgressCallback
    on_metrics: Callable[[Metrics], None]


@contextmanager
def _training_session(out: Path | None, output: Path | None, *, tensorboard: bool) -> Iterator[_Session]:
    """Print the metrics of every validation, and log them for TensorBoard; errors become sentences."""
    with errors():
        folder = select_output(out, output, folder=True)
    stopped = "Stopped. Rerun the same command to resume from the last checkpoint, if any."
    with errors(stopped=stopped), progress_bar("train", unit="step") as progress:
        from freezeframe.pipeline.training.tensorboard import tensorboard_writer

        writers = [tensorboard_writer(folder)] if tensorboard else []

        def on_metrics(metrics: Metrics) -> None:
            print_message("  ".join(f"{name} {value:.3f}" for name, value in metrics.items()))
            for write in writers:
                write(metrics)

        yield _Session(folder=folder, progress=progress, on_metrics=on_metrics)


@app.command(cls=Command)
def fusion(
    photos: Photos,
    out: OutputFolder = None,
    output_option: OutputOption = None,
    val_pairs: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Validation clips: */blur/*.png and */sharp/*.png."),
    ] = None,
    steps: Annotated[
        int, typer.Option(min=1, metavar="N", help="Total steps; a later run may raise it.")
    ] = 20000,
    batch_size: BatchSize = 16,
    width: Annotated[
        int, typer.Option(min=8, metavar="N", help="Channels at half size; doubled twice.")
    ] = 32,
    num_shards: Annotated[
        int, typer.Option(min=1, metavar="N", help="Shards to render: 16 clips and 42 MB each.")
    ] = 400,
    workers: Annotated[
        int, typer.Option(min=0, metavar="N", help="Processes that render shards in the background.")
    ] = 1,
    init_weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Initial weights; their width replaces --width (default: random).",
        ),
    ] = None,
    lr: Annotated[float, typer.Option(metavar="RATE", help="Peak learning rate.")] = 1e-3,
    val_interval: ValInterval = 5.0,
    seed: Annotated[
        int, typer.Option(min=0, max=600, metavar="N", help="Seed of all random numbers and of the clips.")
    ] = 0,
    device: Device = "auto",
    tensorboard: TensorBoardOption = False,
) -> None:
    """Train the fusion network for deconvolved frames; rerun the same command to resume."""
    with _training_session(out, output_option, tensorboard=tensorboard) as session:
        from freezeframe.pipeline.training.fusion import TrainConfig, train
        from freezeframe.pipeline.training.fusion_data import SHARD_BYTES
        from freezeframe.pipeline.training.loop import LoopConfig

        config = TrainConfig(
            batch_size=batch_size, width=width, num_shards=num_shards, workers=workers,
            init_weights=init_weights, val_pairs=val_pairs,
            loop=LoopConfig(steps=steps, lr=lr, seed=seed, val_interval=val_interval, device=device),
        )  # fmt: skip
        shards = session.folder / "shards"
        print_message(format_disk_usage(shards, num_shards * SHARD_BYTES, option="--num-shards"))
        weights = train(
            photos, session.folder, config=config, progress=session.progress, on_metrics=session.on_metrics
        )
    print_path(weights)


@app.command(cls=Command)
def restorer(
    photos: Photos,
    out: OutputFolder = None,
    output_option: OutputOption = None,
    arch: Annotated[
        Arch, typer.Option(help="Architecture; all but refiner have a million parameters.")
    ] = "refiner",
    val_photos: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Validation photos, to select the best weights."),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, metavar="N", help="Total steps.")] = 10000,
    batch_size: BatchSize = 16,
    patch_size: Annotated[int, typer.Option(min=32, metavar="PX", help="Side of a patch.")] = 128,
    val_interval: ValInterval = 5.0,
    seed: Seed = 0,
    device: Device = "auto",
    tensorboard: TensorBoardOption = False,
) -> None:
    """Train a single-image restorer on synthetically degraded photos; rerun the same command to resume."""
    with _training_session(out, output_option, tensorboard=tensorboard) as session:
        from freezeframe.pipeline.training.loop import LoopConfig
        from freezeframe.pipeline.training.restorer import RestorerConfig, train_restorer

        config = RestorerConfig(
            arch=arch, batch_size=batch_size, patch_size=patch_size, val_photos=val_photos,
            loop=LoopConfig(steps=steps, seed=seed, val_interval=val_interval, device=device),
        )  # fmt: skip
        weights = train_restorer(
            photos, session.folder, config=config, progress=session.progress, on_metrics=session.on_metrics
        )
    print_path(weights)


@app.command(cls=Command)
def psf(
    photos: Photos,
    out: OutputFolder = None,
    output_option: OutputOption = None,
    val_photos: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Validation photos.")] = None,
    steps: Annotated[int, typer.Option(min=1, metavar="N", help="Total steps.")] = 2500,
    batch_size: BatchSize = 16,
    patch_size: Annotated[int, typer.Option(min=128, metavar="PX", help="Side of a patch.")] = 192,
    val_interval: ValInterval = 5.0,
    seed: Seed = 0,
    device: Device = "auto",
    tensorboard: TensorBoardOption = False,
) -> None:
    """Train the PSF estimator of the refiner; rerun the same command to resume."""
    with _training_session(out, output_option, tensorboard=tensorboard) as session:
        from freezeframe.data.synthesis.clips.clips import load_pictures
        from freezeframe.pipeline.training.loop import LoopConfig, run_training
        from freezeframe.pipeline.training.psf_task import PsfTask

        task = PsfTask(load_pictures(photos), batch_size, patch_size, seed, val_photos)
        config = LoopConfig(steps=steps, seed=seed, val_interval=val_interval, device=device)
        weights = run_training(
            task, session.folder, config=config, progress=session.progress, on_metrics=session.on_metrics
        )
    print_path(weights)


@app.command(cls=Command, name="blur-field")
def blur_field(
    photos: Photos,
    out: OutputFolder = None,
    output_option: OutputOption = None,
    val_photos: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Validation photos.")] = None,
    steps: Annotated[int, typer.Option(min=1, metavar="N", help="Total steps.")] = 20000,
    batch_size: BatchSize = 8,
    num_shards: Annotated[
        int, typer.Option(min=4, metavar="N", help="Shards to render: 32 photographs and 5 MB each.")
    ] = 600,
    lr: Annotated[float, typer.Option(metavar="RATE", help="Peak learning rate.")] = 1e-3,
    val_interval: ValInterval = 5.0,
    seed: Seed = 0,
    device: Device = "auto",
    tensorboard: TensorBoardOption = False,
) -> None:
    """Train the estimator of the blur field of a photograph; rerun the same command to resume."""
    with _training_session(out, output_option, tensorboard=tensorboard) as session:
        from freezeframe.data.synthesis.clips.clips import load_pictures
        from freezeframe.pipeline.training.blur_field_task import SHARD_BYTES, BlurFieldTask
        from freezeframe.pipeline.training.loop import LoopConfig, run_training

        shards = session.folder / "shards"
        print_message(format_disk_usage(shards, num_shards * SHARD_BYTES, option="--num-shards"))
        task = BlurFieldTask(
            pictures=load_pictures(photos), folder=shards, batch_size=batch_size, num_shards=num_shards,
            seed=seed, val_photos=val_photos,
        )  # fmt: skip
        config = LoopConfig(steps=steps, lr=lr, seed=seed, val_interval=val_interval, device=device)
        weights = run_training(
            task, session.folder, config=config, progress=session.progress, on_metrics=session.on_metrics
        )
    print_path(weights)


@app.command(cls=Command)
def shutter(
    photos: Photos,
    out: OutputFolder = None,
    output_option: OutputOption = None,
    steps: Annotated[int, typer.Option(min=1, metavar="N", help="Total steps.")] = 4000,
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="Frames per step and device.")] = 16,
    num_clips: Annotated[int, typer.Option(min=1, metavar="N", help="Rendered clips of 1 MB each.")] = 7000,
    val_interval: ValInterval = 5.0,
    seed: Seed = 0,
    device: Device = "auto",
    tensorboard: TensorBoardOption = False,
) -> None:
    """Train the shutter estimator; rerun the same command to resume."""
    with _training_session(out, output_option, tensorboard=tensorboard) as session:
        from freezeframe.data.synthesis.clips.clips import load_pictures
        from freezeframe.pipeline.training.loop import LoopConfig, run_training
        from freezeframe.pipeline.training.shutter_task import CLIP_BYTES, ShutterTask

        clips = session.folder / "clips"
        print_message(format_disk_usage(clips, num_clips * CLIP_BYTES, option="--num-clips"))
        task = ShutterTask(load_pictures(photos), clips, batch_size, num_clips, seed)
        config = LoopConfig(steps=steps, seed=seed, val_interval=val_interval, device=device)
        weights = run_training(
            task, session.folder, config=config, progress=session.progress, on_metrics=session.on_metrics
        )
    print_path(weights)


def format_disk_usage(folder: Path, num_bytes: int, *, option: str) -> str:
    """The disk space that a training will take."""
    existing_folder = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(existing_folder).free
    return (
        f"{folder}: will take up to {num_bytes / 1e9:.1f} GB of disk ({free / 1e9:.1f} GB are free);"
        f" a smaller {option} takes less"
    )
