"""What the whole command gains on footage with known truth, beside what simpler means gain.

Run: python -m benchmarks.accuracy.quality   (needs ../shared/data; about four minutes on two cores)
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import torch

from freezeframe.data.datasets.paired import Pairs
from freezeframe.data.datasets.paired import take as pair
from freezeframe.data.datasets.sequences import open_set
from freezeframe.data.media.video_in.stream_info import address
from freezeframe.data.metrics.image import srgb_codes
from freezeframe.data.metrics.temporal import light_of
from freezeframe.data.synthesis.degradations.camera_isp import Camera, recorded
from freezeframe.motion.flow.estimators import dis_pair
from freezeframe.motion.flow.warp import warp
from freezeframe.pipeline.bench.markdown_table import table
from freezeframe.pipeline.bench.methods import OURS, WEIGHTLESS, Method, methods_for, read, write
from freezeframe.pipeline.bench.run import bench
from freezeframe.pipeline.bench.scoring import Figures, over_takes
from freezeframe.pipeline.config import Config
from freezeframe.pipeline.stages.measure import adjacent_flows
from freezeframe.pipeline.tasks.video import deblur_video

REDS = Path(__file__).resolve().parents[3] / "shared" / "data" / "test" / "reds"
ALONE = replace(Config(), fuse=replace(Config().fuse, network="none"))
GRAINY = Camera(shot=5e-4, read=2e-3)  # 2,000 electrons at white: a phone indoors
CLIPS = {  # rate factor and pixel format
    "REDS, near-lossless clips (H.264 crf 4, 4:4:4)": (4, "yuv444p"),
    "REDS, H.264 crf 23": (23, "yuv420p"),
    "REDS, H.264 crf 28": (28, "yuv420p"),
}


def decode(clip: Path, folder: Path) -> Path:
    folder.mkdir()
    with av.open(address(clip)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            codes = frame.to_ndarray(format="rgb24", src_colorspace="itu709")
            write(folder / f"{number:06d}.png", codes)
    return folder


def encode(folder: Path, clip: Path, *, crf: int, pix_fmt: str) -> Path:
    """H.264 by plain PyAV: the camera's codec, not ours. The same file every time."""
    pictures = [read(path) for path in sorted(folder.glob("*.png"))]
    height, width = pictures[0].shape[:2]
    # With x264's macroblock tree the same frames become another file from run to run.
    options = {"crf": str(crf), "threads": "1", "x264-params": "mbtree=0"}
    with av.open(address(clip), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(24), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.colorspace = stream.codec_context.color_primaries = 1
        stream.codec_context.color_trc = stream.codec_context.color_range = 1
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            shown = frame.reformat(format=pix_fmt, dst_colorspace="itu709")
            shown.colorspace = shown.color_primaries = shown.color_trc = shown.color_range = 1
            container.mux(stream.encode(shown))
        container.mux(stream.encode(None))
    return clip


def grainy(sequence: Path, folder: Path) -> Path:
    """The blurred frames of a sequence as a sensor short of light would have recorded them."""
    folder.mkdir()
    for number, path in enumerate(sorted((sequence / "blur").glob("*.png"))):
        write(folder / path.name, recorded([light_of(read(path))], GRAINY, seed=number)[0])
    return folder


def plain_average(source: Path, output: Path) -> None:
    """Each frame with its aligned neighbours, equally weighted."""
    output.mkdir()
    paths = sorted(source.glob("*.png"))
    images = torch.stack([light_of(read(path)) for path in paths])
    flows = adjacent_flows(images, dis_pair)
    for i, image in enumerate(images):
        others = [warp(images[j], flows[i, j].shift) for j in (i - 1, i + 1) if 0 <= j < len(images)]
        write(output / paths[i].name, srgb_codes(torch.stack([image, *others]).mean(0)))


def our_clip(_source: Path, output: Path, *, clip: Path, config: Config) -> None:
    """The whole command from video file to video file."""
    result = output.with_suffix(".mp4")
    deblur_video(clip, result, config=config)
    decode(result, output)


def of_clip(sequence: Path, scratch: Path, *, crf: int, pix_fmt: str) -> tuple[Pairs, dict[str, Method]]:
    """What a decoder shows of a compressed sequence, and the methods, of which ours gets the file."""
    clip = encode(sequence / "blur", scratch / "clip.mp4", crf=crf, pix_fmt=pix_fmt)
    shown = decode(clip, scratch / "shown")
    sharp = scratch / "sharp"
    sharp.mkdir()
    for number, path in enumerate(sorted((sequence / "sharp").glob("*.png"))):
        (sharp / f"{number:06d}.png").write_bytes(path.read_bytes())
    ours: dict[str, Method] = {
        WEIGHTLESS: partial(our_clip, clip=clip, config=ALONE),
        OURS: partial(our_clip, clip=clip, config=Config()),
    }
    return Pairs(name=sequence.name, takes=(pair(shown, sharp, name=sequence.name),)), means() | ours


def means() -> dict[str, Method]:
    return {"plain average of 3": plain_average, **methods_for(Config(), restorer=None)}


def pooled(title: str, results: list[dict[str, Figures]]) -> str:
    rows = {name: over_takes([rows[name] for rows in results]) for name in results[0]}
    return table(rows, title=title, rule="pixel by pixel")


def main() -> None:
    if not REDS.is_dir():
        raise SystemExit("the blurry/sharp pairs (../shared/data/test/reds) are not here")
    folders = bench(open_set(REDS, "reds"), means())
    print(table(folders.rows, title="REDS, 20 frames, PNG folders", rule=folders.rule), flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        takes = tuple(
            pair(grainy(sequence, Path(scratch) / sequence.name), sequence / "sharp", name=sequence.name)
            for sequence in sorted(REDS.iterdir())
        )
        noisy = bench(Pairs(name="grainy", takes=takes), means())
        print("\n" + table(noisy.rows, title="REDS, sensor noise, PNG folders", rule=noisy.rule), flush=True)
    for title, (crf, pix_fmt) in CLIPS.items():
        results: list[dict[str, Figures]] = []
        for sequence in sorted(REDS.iterdir()):
            with tempfile.TemporaryDirectory() as scratch:
                pairs, methods = of_clip(sequence, Path(scratch), crf=crf, pix_fmt=pix_fmt)
                results.append(dict(bench(pairs, methods).rows))
        print("\n" + pooled(title, results), flush=True)


if __name__ == "__main__":
    main()
