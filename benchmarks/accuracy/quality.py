"""Gain of the complete command on footage with known ground truth, beside that of baselines.

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

from freezeframe.data.datasets.paired import PairedDataset
from freezeframe.data.datasets.paired import pair_sequence as pair
from freezeframe.data.datasets.sequences import open_set
from freezeframe.data.media.video_in.stream_info import ffmpeg_url
from freezeframe.data.srgb import linear_to_srgb, srgb_to_linear
from freezeframe.data.synthesis.degradations.camera_isp import Camera, record_clip
from freezeframe.motion.flow.estimators import dis_pair
from freezeframe.motion.flow.warp import warp
from freezeframe.pipeline.bench.markdown_table import render_table
from freezeframe.pipeline.bench.methods import FREEZEFRAME, NO_NETWORK, Method, methods_for, read, write
from freezeframe.pipeline.bench.run import bench
from freezeframe.pipeline.bench.scoring import Metrics, mean_over_sequences
from freezeframe.pipeline.config import Config
from freezeframe.pipeline.stages.flows import adjacent_flows
from freezeframe.pipeline.tasks.video import deblur_video

REDS = Path(__file__).resolve().parents[3] / "shared" / "data" / "test" / "reds"
NO_NETWORK_CONFIG = replace(Config(), fuse=replace(Config().fuse, network="none"))
NOISY_CAMERA = Camera(shot=5e-4, read=2e-3)  # 2,000 electrons at white: a phone indoors
CLIPS = {  # constant rate factor and pixel format
    "REDS, near-lossless clips (H.264 crf 4, 4:4:4)": (4, "yuv444p"),
    "REDS, H.264 crf 23": (23, "yuv420p"),
    "REDS, H.264 crf 28": (28, "yuv420p"),
}


def decode(clip: Path, folder: Path) -> Path:
    folder.mkdir()
    with av.open(ffmpeg_url(clip)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            encoded = frame.to_ndarray(format="rgb24", src_colorspace="itu709")
            write(folder / f"{number:06d}.png", encoded)
    return folder


def encode(folder: Path, clip: Path, *, crf: int, pix_fmt: str) -> Path:
    """Encode as H.264 with plain PyAV, as a camera would. Reproducible to the byte."""
    pictures = [read(path) for path in sorted(folder.glob("*.png"))]
    height, width = pictures[0].shape[:2]
    # x264's macroblock tree makes the file differ from run to run.
    options = {"crf": str(crf), "threads": "1", "x264-params": "mbtree=0"}
    with av.open(ffmpeg_url(clip), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(24), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.colorspace = stream.codec_context.color_primaries = 1
        stream.codec_context.color_trc = stream.codec_context.color_range = 1
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            decoded = frame.reformat(format=pix_fmt, dst_colorspace="itu709")
            decoded.colorspace = decoded.color_primaries = decoded.color_trc = decoded.color_range = 1
            container.mux(stream.encode(decoded))
        container.mux(stream.encode(None))
    return clip


def add_noise(sequence: Path, folder: Path) -> Path:
    """The blurred frames of a sequence with the noise of a sensor in low light."""
    folder.mkdir()
    for number, path in enumerate(sorted((sequence / "blur").glob("*.png"))):
        write(folder / path.name, record_clip([srgb_to_linear(read(path))], NOISY_CAMERA, seed=number)[0])
    return folder


def plain_average(source: Path, output: Path) -> None:
    """Mean of each frame and its two aligned neighbours."""
    output.mkdir()
    paths = sorted(source.glob("*.png"))
    images = torch.stack([srgb_to_linear(read(path)) for path in paths])
    flows = adjacent_flows(images, dis_pair)
    for i, image in enumerate(images):
        warped = [warp(images[j], flows[i, j].uv) for j in (i - 1, i + 1) if 0 <= j < len(images)]
        write(output / paths[i].name, linear_to_srgb(torch.stack([image, *warped]).mean(0)))


def run_on_clip(_source: Path, output: Path, *, clip: Path, config: Config) -> None:
    """The complete command from video file to video file."""
    result = output.with_suffix(".mp4")
    deblur_video(clip, result, config=config)
    decode(result, output)


def clip_benchmark(
    sequence: Path, scratch: Path, *, crf: int, pix_fmt: str
) -> tuple[PairedDataset, dict[str, Method]]:
    """The decoded frames of a compressed sequence, and the methods; freezeframe reads the file itself."""
    clip = encode(sequence / "blur", scratch / "clip.mp4", crf=crf, pix_fmt=pix_fmt)
    decoded = decode(clip, scratch / "decoded")
    sharp = scratch / "sharp"
    sharp.mkdir()
    for number, path in enumerate(sorted((sequence / "sharp").glob("*.png"))):
        (sharp / f"{number:06d}.png").write_bytes(path.read_bytes())
    our_methods: dict[str, Method] = {
        NO_NETWORK: partial(run_on_clip, clip=clip, config=NO_NETWORK_CONFIG),
        FREEZEFRAME: partial(run_on_clip, clip=clip, config=Config()),
    }
    return PairedDataset(
        name=sequence.name, sequences=(pair(decoded, sharp, name=sequence.name),)
    ), all_methods() | our_methods


def all_methods() -> dict[str, Method]:
    return {"mean_of_3": plain_average, **methods_for(Config(), restorer=None)}


def mean_table(title: str, results: list[dict[str, Metrics]]) -> str:
    rows = {name: mean_over_sequences([rows[name] for rows in results]) for name in results[0]}
    return render_table(rows, title=title, comparison="per_pixel")


def main() -> None:
    if not REDS.is_dir():
        raise SystemExit("needs the blurred/sharp pairs in ../shared/data/test/reds")
    folders = bench(open_set(REDS, "reds"), all_methods())
    print(
        render_table(folders.rows, title="REDS, 20 frames, PNG folders", comparison=folders.comparison),
        flush=True,
    )
    with tempfile.TemporaryDirectory() as scratch:
        sequences = tuple(
            pair(add_noise(sequence, Path(scratch) / sequence.name), sequence / "sharp", name=sequence.name)
            for sequence in sorted(REDS.iterdir())
        )
        noisy = bench(PairedDataset(name="noisy", sequences=sequences), all_methods())
        print(
            "\n"
            + render_table(noisy.rows, title="REDS, sensor noise, PNG folders", comparison=noisy.comparison),
            flush=True,
        )
    for title, (crf, pix_fmt) in CLIPS.items():
        results: list[dict[str, Metrics]] = []
        for sequence in sorted(REDS.iterdir()):
            with tempfile.TemporaryDirectory() as scratch:
                pairs, methods = clip_benchmark(sequence, Path(scratch), crf=crf, pix_fmt=pix_fmt)
                results.append(dict(bench(pairs, methods).rows))
        print("\n" + mean_table(title, results), flush=True)


if __name__ == "__main__":
    main()
