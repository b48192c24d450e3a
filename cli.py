"""The command line: arguments -> Config -> pipeline. It can do nothing that the library cannot."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ == "__main__" and not __package__:
    # `python cli.py`: without this the rooms beside this file would become top-level modules.
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

from typing import Annotated, Literal

import typer

from freezeframe.pipeline.commands import models as commands_models
from freezeframe.pipeline.commands import train as commands_train
from freezeframe.pipeline.commands.clip_options import ClipOptions
from freezeframe.pipeline.commands.options import (
    OUTPUT,
    BackendOption,
    Device,
    Force,
    NetworkOption,
    OutputOption,
    PrecisionOption,
    ReportFile,
    Restorer,
    Strength,
)
from freezeframe.pipeline.commands.parser import Command, Commands, expand_option_groups, select_output
from freezeframe.pipeline.commands.restore import restore
from freezeframe.pipeline.commands.scene import scene
from freezeframe.pipeline.commands.terminal import (
    errors,
    print_message,
    print_path,
    print_result,
    progress_bar,
)
from freezeframe.pipeline.support.signals import interruption_message

from . import __version__

app = typer.Typer(
    name="freezeframe",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

RESUME_NOTICE = "Stopped. Finished clips are kept; rerun the same command to go on."


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


@app.command(cls=Command)
@expand_option_groups
def video(
    source: Annotated[Path, typer.Argument(help="A video file or a folder of numbered images.")],
    clip: ClipOptions,
    output: Annotated[
        Path | None, typer.Argument(help="A video file, or a folder for numbered images.")
    ] = None,
    output_option: OutputOption = None,
    force: Force = False,
    report: ReportFile = None,
    json_: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE", rich_help_panel=OUTPUT,
            help="Write the stream check (audio, timestamps, tags) as JSON.",
        ),
    ] = None,
) -> None:  # fmt: skip
    """Sharpen a clip. Interrupt it at any time and rerun the same command to resume."""
    with errors():
        target = select_output(output, output_option)
    with errors(stopped=interruption_message(target)):
        from freezeframe.pipeline.commands import build_config as options

        config = clip.config(force=force)
        claims = options.claim_outputs(
            {"--report": report, "--json": json_}, inputs=[source], output=target, force=force
        )
        from freezeframe.pipeline import api

        with progress_bar(source.name) as on_progress:
            result = api.deblur_video(
                source, target, config=config, progress=on_progress, on_message=print_message
            )
        print_message(result.text())
        if result.verification:
            print_message(result.verification.text())
        print_path(target)
        options.save_json(claims.get("--report"), result.to_dict(), main_output=target)
        options.save_json(
            claims.get("--json"),
            result.verification.to_dict() if result.verification else {},
            main_output=target,
        )
        if result.verification and not result.verification.passed:
            print_message(f"freezeframe: {target}: was written, but not as promised; see FAIL above")
            raise typer.Exit(1)


@app.command(cls=Command)
def burst(
    images: Annotated[list[Path], typer.Argument(help="Two photos or more of one scene, in order.")],
    out: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            "--out",
            metavar="PHOTO",
            help="The photo to write; its suffix chooses the format.",
        ),
    ],
    strength: Strength = 1.0,
    restorer: Restorer = None,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    backend: BackendOption = "auto",
    force: Force = False,
) -> None:
    """Make one sharp photo from a burst of blurred ones. The best of them serves as the reference."""
    with errors():
        from freezeframe.pipeline import api
        from freezeframe.pipeline.commands import build_config as options

        config = options.configure(
            "burst", output={"force": force}, refine={"checkpoint": restorer},
            strength=strength, device=device, precision=precision, backend=backend,
        )  # fmt: skip
        with progress_bar("burst", unit="step") as on_progress:
            result = api.deblur_burst(images, out, config=config, progress=on_progress)
        print_message(f"reference {result.reference}; mean confidence {float(result.confidence.mean()):.2f}")
        print_path(result.output)


app.command(cls=Command)(restore)
app.command(cls=Command)(scene)
app.add_typer(commands_models.app, name="models")


@app.command(cls=Command)
@expand_option_groups
def batch(
    in_dir: Annotated[Path, typer.Argument(help="A folder of clips.")],
    clip: ClipOptions,
    out_dir: Annotated[
        Path | None, typer.Argument(help="A folder for the same tree of results.")
    ] = None,
    output_option: OutputOption = None,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Include sub-folders.")] = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, metavar="N", help="Clips at once.")] = 1,
    force: Force = False,
    report: ReportFile = None,
) -> None:  # fmt: skip
    """Sharpen every clip of a folder; skips finished clips and continues after failures.

    The options are those of `freezeframe video`, for each clip.
    """
    with errors(stopped=RESUME_NOTICE):
        from freezeframe.pipeline.commands import build_config as options
        from freezeframe.pipeline.tasks import batch as batch_module

        target = select_output(out_dir, output_option, folder=True)
        clip.config(force=force)  # what is wrong for one is wrong for all: say so once, and now
        clips = batch_module.find_jobs(in_dir, target, recursive=recursive)
        claims = options.claim_outputs(
            {"--report": report}, inputs=[job.source for job in clips], force=force
        )
        for note in batch_module.collect_notes(clips, in_dir, target):
            print_message(f"note: {note}")
        with progress_bar(in_dir.name, unit="clip") as on_progress:
            on_progress(0, len(clips))
            results = batch_module.run_batch(
                clips,
                options=clip.to_arguments(),
                workers=jobs,
                force=force,
                on_result=lambda _: on_progress(1, len(clips)),
            )
        options.save_json(claims.get("--report"), batch_module.to_dict(results), main_output=target)
    print_result(batch_module.format_table(results))
    if any(result.status == "failed" for result in results):
        raise typer.Exit(1)


@app.command(cls=Command)
def probe(
    source: Annotated[Path, typer.Argument(help="A video file, a folder of images, or a photo.")],
    json_: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the diagnosis as JSON.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Draw blur and sharpness over time and blur vectors (.png, .svg, .pdf)."
        ),
    ] = None,
    stride: Annotated[int, typer.Option(min=1, metavar="N", help="Sample each n-th frame only.")] = 5,
    force: Force = False,
) -> None:
    """Say what is blurred, how far, in which direction and why, before any work is done."""
    with errors():
        from freezeframe.pipeline.commands import build_config as options

        claims = options.claim_outputs({"--json": json_}, inputs=[source], output=plot, force=force)
        from freezeframe.pipeline.tasks.probe.run import probe as diagnose

        with progress_bar(source.name) as on_progress:
            diagnosis = diagnose(source, stride=stride, plot=plot, force=force, progress=on_progress)
        options.save_json(claims.get("--json"), diagnosis.to_dict())
        print_result(diagnosis.text())


@app.command(cls=Command)
def demo(
    clip: Annotated[
        Path | None, typer.Option(metavar="CLIP", help="Your own clip instead of the sample.")
    ] = None,
    out: Annotated[
        Path, typer.Option("--output", "-o", "--out", metavar="FOLDER", help="Folder for the results.")
    ] = Path("freezeframe-demo"),
    force: Force = False,
) -> None:
    """Sharpen the sample clip and the sample burst that come with the package, and say what was gained."""
    with errors():
        from freezeframe.pipeline.commands.demo import demo as run_demo

        with progress_bar("demo") as on_progress:
            text = run_demo(clip, out, force=force, progress=on_progress)
        print_result(text)


app.add_typer(commands_train.app, name="train")


@app.command(cls=Command)
def bench(
    blurred: Annotated[
        Path, typer.Argument(help="Folder of blurred frames or of sequences; or a whole set.")
    ],
    truth: Annotated[Path | None, typer.Argument(help="The same, sharp; not with --set.")] = None,
    set_: Annotated[
        Literal["gopro", "gopro-gamma", "dvd", "bsd", "reds", "realblur-j", "realblur-r", "hide", "kohler"]
        | None,
        typer.Option("--set", metavar="NAME", help="BLURRED is this set, as it was unpacked: gopro,"
                     " gopro-gamma, dvd, bsd, reds, realblur-j, realblur-r, hide or kohler."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Part of the set (default: the one its authors report on)."),
    ] = None,
    photos: Annotated[
        bool, typer.Option("--photos", help="The pictures are no clip, each stands alone.")
    ] = False,
    restorer: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Checkpoint to benchmark too, by itself.")
    ] = None,
    network: NetworkOption = "bundled",
    out: Annotated[
        Path,
        typer.Option(
            "--output", "-o", "--out", metavar="FOLDER", rich_help_panel=OUTPUT,
            help="Folder for table, JSON and compare page.",
        ),
    ] = Path("freezeframe-bench"),
    device: Device = "auto",
    force: Force = False,
) -> None:  # fmt: skip
    """Benchmark on blurred/sharp pairs and compare with simple baselines."""
    with errors():
        from freezeframe.pipeline.bench import run as bench_module
        from freezeframe.pipeline.bench.methods import methods_for
        from freezeframe.pipeline.commands import build_config as options

        claims = bench_module.claim_results(out, inputs=[blurred, *([truth] if truth else [])], force=force)
        pairs = bench_module.open_pairs(blurred, truth, name=set_, split=split, photos=photos)
        config = options.configure(
            "auto", fuse={"network": options.network(network)}, strength=1.0, device=device, precision="auto"
        )
        with progress_bar("bench") as on_progress:
            benchmark = bench_module.bench(
                pairs, methods_for(config, restorer=restorer), progress=on_progress
            )
        benchmark.save(claims)
        print_message(benchmark.text())
        print_path(out / "compare.html")


@app.command(cls=Command)
def export(
    output: Annotated[Path | None, typer.Argument(help="The .onnx file to write.")] = None,
    output_option: OutputOption = None,
    weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="From `freezeframe train` (default: the shipped ones)."),
    ] = None,
    size: Annotated[tuple[int, int], typer.Option(metavar="WIDTH HEIGHT", help="Of the frames.")] = (
        1280,
        720,
    ),
    force: Force = False,
) -> None:
    """Write the network as an ONNX file and check its output against PyTorch's."""
    with errors():
        from freezeframe.models.registry.bundled import WEIGHTS, read_network
        from freezeframe.models.runtime.onnx_export import export_onnx

        target = select_output(output, output_option)
        network = read_network(weights or WEIGHTS)
        print_message(export_onnx(network, target, size=size[::-1], force=force))
        print_path(target)


@app.command(cls=Command)
def doctor() -> None:
    """Versions, devices, codecs, and a self-check that blurs and restores a clip of its own."""
    with errors():
        from freezeframe.pipeline.commands.doctor import check_installation

        text, healthy = check_installation()
        print_result(text)
        if not healthy:
            raise typer.Exit(2)


def main() -> None:
    """Entry point of the `freezeframe` command."""
    # Threads that wait for work must sleep: where the cores are shared, spinning ones double every time.
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    app()


if __name__ == "__main__":
    main()
