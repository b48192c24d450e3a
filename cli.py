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

    from freezeframe.pipeline.support.signals import listen

    listen()  # before the slow imports

from typing import Annotated, Literal

import typer

from freezeframe.pipeline.commands import models as commands_models
from freezeframe.pipeline.commands import train as commands_train
from freezeframe.pipeline.commands.clip_options import ClipOptions
from freezeframe.pipeline.commands.options import (
    OUTPUT,
    Device,
    Force,
    NetworkOption,
    OutputOption,
    PrecisionOption,
    ReportFile,
    Restorer,
    Strength,
)
from freezeframe.pipeline.commands.parser import Command, Commands, output_of, taking
from freezeframe.pipeline.commands.restore import restore
from freezeframe.pipeline.commands.scene import scene
from freezeframe.pipeline.commands.terminal import answer, bar, errors, say, show
from freezeframe.pipeline.support.signals import what_is_kept

from . import __version__

app = typer.Typer(
    name="freezeframe",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

GOES_ON = "Stopped. Finished clips are kept; rerun the same command to go on."


def _show_version(wanted: bool) -> None:
    if wanted:
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
@taking
def video(
    source: Annotated[Path, typer.Argument(help="A video file or a folder of numbered images.")],
    clip: ClipOptions,
    output: Annotated[
        Path | None, typer.Argument(help="A video file, or a folder for numbered images.")
    ] = None,
    named: OutputOption = None,
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
        target = output_of(output, named)
    with errors(stopped=what_is_kept(target)):
        from freezeframe.pipeline.commands import build_config as options

        config = clip.config(force=force)
        kept = options.writable(
            {"--report": report, "--json": json_}, inputs=[source], output=target, force=force
        )
        from freezeframe.pipeline import api

        with bar(source.name) as advance:
            done = api.deblur_video(source, target, config=config, progress=advance, tell=say)
        say(done.text())
        if done.plumbing:
            say(done.plumbing.text())
        answer(target)
        options.save_json(kept.get("--report"), done.to_dict(), beside=target)
        options.save_json(kept.get("--json"), done.plumbing.to_dict() if done.plumbing else {}, beside=target)
        if done.plumbing and not done.plumbing.passed:
            say(f"freezeframe: {target}: was written, but not as promised; see FAIL above")
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
    force: Force = False,
) -> None:
    """Make one sharp photo from a burst of blurred ones. The best of them serves as the reference."""
    with errors():
        from freezeframe.pipeline import api
        from freezeframe.pipeline.commands import build_config as options

        config = options.configure(
            "burst", output={"force": force}, refine={"checkpoint": restorer},
            strength=strength, device=device, precision=precision,
        )  # fmt: skip
        with bar("burst", unit="step") as advance:
            result = api.deblur_burst(images, out, config=config, progress=advance)
        say(f"reference {result.reference}; mean confidence {float(result.confidence.mean()):.2f}")
        answer(result.output)


app.command(cls=Command)(restore)
app.command(cls=Command)(scene)
app.add_typer(commands_models.app, name="models")


@app.command(cls=Command)
@taking
def batch(
    in_dir: Annotated[Path, typer.Argument(help="A folder of clips.")],
    clip: ClipOptions,
    out_dir: Annotated[
        Path | None, typer.Argument(help="A folder for the same tree of results.")
    ] = None,
    named: OutputOption = None,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Include sub-folders.")] = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, metavar="N", help="Clips at once.")] = 1,
    force: Force = False,
    report: ReportFile = None,
) -> None:  # fmt: skip
    """Sharpen every clip of a folder; skips finished clips and continues after failures.

    The options are those of `freezeframe video`, for each clip.
    """
    with errors(stopped=GOES_ON):
        from freezeframe.pipeline.commands import build_config as options
        from freezeframe.pipeline.tasks import batch as work

        target = output_of(out_dir, named, folder=True)
        clip.config(force=force)  # what is wrong for one is wrong for all: say so once, and now
        found = work.jobs_in(in_dir, target, recursive=recursive)
        kept = options.writable({"--report": report}, inputs=[job.source for job in found], force=force)
        for note in work.notes_on(found, in_dir, target):
            say(f"note: {note}")
        with bar(in_dir.name, unit="clip") as advance:
            advance(0, len(found))
            outcomes = work.run_batch(
                found,
                options=clip.words(),
                workers=jobs,
                force=force,
                tell=lambda _: advance(1, len(found)),
            )
        options.save_json(kept.get("--report"), work.to_dict(outcomes), beside=target)
    show(work.table(outcomes))
    if any(outcome.status == "failed" for outcome in outcomes):
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
    every: Annotated[int, typer.Option(min=1, metavar="N", help="Sample each n-th frame only.")] = 5,
    force: Force = False,
) -> None:
    """Say what is blurred, how far, in which direction and why, before any work is done."""
    with errors():
        from freezeframe.pipeline.commands import build_config as options

        kept = options.writable({"--json": json_}, inputs=[source], output=plot, force=force)
        from freezeframe.pipeline.tasks.probe.run import probe as diagnose

        with bar(source.name) as advance:
            found = diagnose(source, every=every, plot=plot, force=force, progress=advance)
        options.save_json(kept.get("--json"), found.to_dict())
        show(found.text())


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
        from freezeframe.pipeline.commands.demo import demo as run

        with bar("demo") as advance:
            text = run(clip, out, force=force, progress=advance)
        show(text)


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
    network: NetworkOption = "shipped",
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
        from freezeframe.pipeline.bench import run as work
        from freezeframe.pipeline.bench.methods import methods_for
        from freezeframe.pipeline.commands import build_config as options

        claims = work.claims_in(out, inputs=[blurred, *([truth] if truth else [])], force=force)
        pairs = work.pairs_of(blurred, truth, name=set_, split=split, photos=photos)
        config = options.configure(
            "auto", fuse={"network": options.network(network)}, strength=1.0, device=device, precision="auto"
        )
        with bar("bench") as advance:
            found = work.bench(pairs, methods_for(config, restorer=restorer), progress=advance)
        found.save(claims)
        say(found.text())
        answer(out / "compare.html")


@app.command(cls=Command)
def export(
    output: Annotated[Path | None, typer.Argument(help="The .onnx file to write.")] = None,
    named: OutputOption = None,
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

        target = output_of(output, named)
        network = read_network(weights or WEIGHTS)
        say(export_onnx(network, target, size=size[::-1], force=force))
        answer(target)


@app.command(cls=Command)
def doctor() -> None:
    """Versions, devices, codecs, and a self-check that blurs and restores a clip of its own."""
    with errors():
        from freezeframe.pipeline.commands.doctor import examine

        text, healthy = examine()
        show(text)
        if not healthy:
            raise typer.Exit(2)


def main() -> None:
    """Entry point of the `freezeframe` command."""
    # Threads that wait for work must sleep: where the cores are shared, spinning ones double every time.
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    app()


if __name__ == "__main__":
    main()
