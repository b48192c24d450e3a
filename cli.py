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

    from .pipeline.signals import listen

    listen()  # before the slow imports

from typing import Annotated, Literal

import typer

from . import __version__
from .pipeline import commands_models, commands_train
from .pipeline.arguments import (
    Adapt,
    Budget,
    Codec,
    Device,
    Estimator,
    Force,
    Iterations,
    MinBlur,
    NetworkOption,
    PrecisionOption,
    PresetOption,
    Quality,
    Radius,
    ReportFile,
    Restorer,
    Shutter,
    SkipDamaged,
    Splat,
    Strength,
)
from .pipeline.commands_restore import restore
from .pipeline.commands_scene import scene
from .pipeline.signals import what_is_kept
from .pipeline.terminal import bar, errors, say

app = typer.Typer(
    name="freezeframe",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

GOES_ON = "Stopped. Finished clips are kept; rerun the same command to go on."


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"freezeframe {__version__}")
        raise typer.Exit


@app.callback()
def freezeframe(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Say the version and stop."),
    ] = False,
) -> None:
    """Takes the motion blur out of video clips and photo bursts, and leaves everything else as it was."""


@app.command()
def video(
    source: Annotated[Path, typer.Argument(help="A video file or a folder of numbered images.")],
    output: Annotated[Path, typer.Argument(help="A video file, or a folder for numbered images.")],
    preset: PresetOption = "auto",
    strength: Strength = 1.0,
    codec: Codec = None,
    quality: Quality = None,
    start: Annotated[float | None, typer.Option(min=0, help="Begin at this second.")] = None,
    end: Annotated[float | None, typer.Option(min=0, help="Stop at this second.")] = None,
    shutter: Shutter = None,
    radius: Radius = None,
    iterations: Iterations = None,
    estimator: Estimator = "dis",
    network: NetworkOption = "shipped",
    adapt: Adapt = 0.0,
    splat: Splat = "off",
    budget: Budget = None,
    min_blur: MinBlur = None,
    restorer: Restorer = None,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    skip_damaged: SkipDamaged = False,
    force: Force = False,
    report: ReportFile = None,
    json_: Annotated[Path | None, typer.Option("--json", help="Write the plumbing sheet as JSON.")] = None,
) -> None:
    """Sharpen a clip. Interrupt it at any time; the same command goes on where it stopped."""
    with errors(stopped=what_is_kept(output)):
        from .pipeline import api, options

        config = options.configure(
            preset,
            output={
                "codec": codec, "quality": quality, "start": start, "end": end,
                "force": force, "skip_damaged": skip_damaged,
            },
            measure={"shutter": shutter, "estimator": estimator},
            fuse={"radius": radius, "iterations": iterations, "network": options.network(network),
                  "adapt": adapt},
            splat={"mode": splat, "budget": budget},
            refine={"checkpoint": restorer},
            gate=options.pixels(min_blur),
            strength=strength, device=device, precision=precision,
        )  # fmt: skip
        kept = options.writable(
            {"--report": report, "--json": json_}, inputs=[source], output=output, force=force
        )
        with bar(source.name) as advance:
            done = api.deblur_video(source, output, config=config, progress=advance)
        say(done.text())
        if done.plumbing:
            say(done.plumbing.text())
        typer.echo(output)
        options.save_json(kept.get("--report"), done.to_dict(), beside=output)
        options.save_json(kept.get("--json"), done.plumbing.to_dict() if done.plumbing else {}, beside=output)
        if done.plumbing and not done.plumbing.passed:
            say(f"freezeframe: {output}: was written, but not as promised; see FAIL above")
            raise typer.Exit(1)


@app.command()
def burst(
    images: Annotated[list[Path], typer.Argument(help="Two photos or more of one scene, in order.")],
    out: Annotated[Path, typer.Option(help="The photo to write; its suffix chooses the format.")],
    strength: Strength = 1.0,
    restorer: Restorer = None,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    force: Force = False,
) -> None:
    """Make one sharp photo from a burst of blurred ones. The best of them serves as the reference."""
    with errors():
        from .pipeline import api, options

        config = options.configure(
            "burst", output={"force": force}, refine={"checkpoint": restorer},
            strength=strength, device=device, precision=precision,
        )  # fmt: skip
        result = api.deblur_burst(images, out, config=config)
        say(f"reference {result.reference}; mean confidence {float(result.confidence.mean()):.2f}")
        typer.echo(result.output)


app.command()(restore)
app.command()(scene)
app.add_typer(commands_models.app, name="models")


@app.command()
def batch(
    in_dir: Annotated[Path, typer.Argument(help="A folder of clips.")],
    out_dir: Annotated[Path, typer.Argument(help="Where the same tree of results goes.")],
    recursive: Annotated[bool, typer.Option("--recursive", help="Folders inside too.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Clips at once.")] = 1,
    preset: PresetOption = "auto",
    strength: Strength = 1.0,
    codec: Codec = None,
    quality: Quality = None,
    min_blur: MinBlur = None,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    skip_damaged: SkipDamaged = False,
    force: Force = False,
) -> None:
    """Sharpen every clip of a folder; finished ones are skipped, a failed one stops no other."""
    with errors(stopped=GOES_ON):
        from .pipeline import batch as work
        from .pipeline import options

        found = work.jobs_in(in_dir, out_dir, recursive=recursive)
        given = options.arguments(
            preset=preset, strength=strength, codec=codec, quality=quality, min_blur=min_blur,
            device=device, precision=precision, skip_damaged=skip_damaged,
        )  # fmt: skip
        with bar(in_dir.name, unit="clip") as advance:
            advance(0, len(found))
            outcomes = work.run_batch(
                found, options=given, workers=jobs, force=force, tell=lambda _: advance(1, len(found))
            )
    typer.echo(work.table(outcomes))
    if any(outcome.status == "failed" for outcome in outcomes):
        raise typer.Exit(1)


@app.command()
def probe(
    source: Annotated[Path, typer.Argument(help="A video file, a folder of images, or a photo.")],
    json_: Annotated[Path | None, typer.Option("--json", help="Write the diagnosis as JSON.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw sharpness over time and blur vectors.")] = None,
    every: Annotated[int, typer.Option(min=1, help="Diagnose each n-th frame only.")] = 5,
    force: Force = False,
) -> None:
    """Say what is blurred, how far, in which direction and why, before any work is done."""
    with errors():
        from .pipeline import options
        from .pipeline.probe import probe as diagnose

        kept = options.writable({"--json": json_}, inputs=[source], output=plot, force=force)
        with bar(source.name) as advance:
            found = diagnose(source, every=every, plot=plot, force=force, progress=advance)
        options.save_json(kept.get("--json"), found.to_dict())
        typer.echo(found.text())


@app.command()
def demo(
    clip: Annotated[Path | None, typer.Option(help="Your own clip instead of the sample.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("freezeframe-demo"),
    force: Force = False,
) -> None:
    """Sharpen the sample clip and the sample burst that come with the package, and say what was gained."""
    with errors():
        from .pipeline.demo import demo as show

        with bar("demo") as advance:
            told = show(clip, out, force=force, progress=advance)
        typer.echo(told)


app.add_typer(commands_train.app, name="train")


@app.command()
def bench(
    blurred: Annotated[
        Path, typer.Argument(help="Folder of blurred frames or of sequences; or a whole set.")
    ],
    truth: Annotated[Path | None, typer.Argument(help="The same with sharp ones; not with --set.")] = None,
    set_: Annotated[
        Literal["gopro", "gopro-gamma", "dvd", "bsd", "reds", "realblur-j", "realblur-r", "hide", "kohler"]
        | None,
        typer.Option("--set", help="BLURRED is this set, as it was unpacked."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Part of the set; else what its authors judge by.")
    ] = None,
    photos: Annotated[
        bool, typer.Option("--photos", help="The pictures are no clip, each stands alone.")
    ] = False,
    restorer: Annotated[Path | None, typer.Option(help="Checkpoint to judge too, by itself.")] = None,
    network: NetworkOption = "shipped",
    out: Annotated[Path, typer.Option(help="Folder for table, JSON and compare page.")] = Path(
        "freezeframe-bench"
    ),
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Judge on pairs with known truth, beside simpler means: every frame, one protocol."""
    with errors():
        from .pipeline import bench as work
        from .pipeline import options
        from .pipeline.bench_methods import methods_for

        claims = work.claims_in(out, inputs=[blurred, *([truth] if truth else [])], force=force)
        pairs = work.pairs_of(blurred, truth, name=set_, split=split, photos=photos)
        config = options.configure(
            "auto", fuse={"network": options.network(network)}, strength=1.0, device=device, precision="auto"
        )
        with bar("bench") as advance:
            found = work.bench(pairs, methods_for(config, restorer=restorer), progress=advance)
        found.save(claims)
        say(found.text())
        typer.echo(out / "compare.html")


@app.command()
def export(
    output: Annotated[Path, typer.Argument(help="The .onnx file to write.")],
    weights: Annotated[
        Path | None, typer.Option(help="From `freezeframe train`; else the shipped ones.")
    ] = None,
    size: Annotated[tuple[int, int], typer.Option(metavar="WIDTH HEIGHT", help="Of the frames.")] = (
        1280,
        720,
    ),
    force: Force = False,
) -> None:
    """Write the network as an ONNX file, and check that it answers as the network does."""
    with errors():
        from .models.onnx_export import export_onnx
        from .models.shipped import WEIGHTS, read_network

        network = read_network(weights or WEIGHTS)
        say(export_onnx(network, output, size=size[::-1], force=force))
        typer.echo(output)


@app.command()
def doctor() -> None:
    """Versions, devices, codecs, and a self-check that blurs and restores a clip of its own."""
    with errors():
        from .pipeline.doctor import examine

        told, healthy = examine()
        typer.echo(told)
        if not healthy:
            raise typer.Exit(2)


def main() -> None:
    """Entry point of the `freezeframe` command."""
    # Threads that wait for work must sleep: where the cores are shared, spinning ones double every time.
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    app()


if __name__ == "__main__":
    main()
