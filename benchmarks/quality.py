"""What the whole command gains on footage with known truth, beside what simpler means gain.

Run: python -m benchmarks.quality   (needs ../shared/data; about four minutes on two cores)
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from torch import Tensor

from freezeframe.data.exposure import blur
from freezeframe.data.metrics import psnr_codes, ssim_codes
from freezeframe.motion.estimate import dis_pair
from freezeframe.motion.warp import warp
from freezeframe.pipeline.api import deblur_video
from freezeframe.pipeline.measure import adjacent_flows, velocities

REDS = Path(__file__).resolve().parents[2] / "shared" / "data" / "test" / "reds"
GAMMA = 2.2

Pictures = list[np.ndarray]  # [H, W, 3] uint8 RGB


def read(folder: Path) -> Pictures:
    return [cv2.imread(str(path))[..., ::-1].copy() for path in sorted(folder.glob("*.png"))]


def decode(path: Path) -> Pictures:
    with av.open(str(path)) as container:
        return [
            frame.to_ndarray(format="rgb24", src_colorspace="itu709") for frame in container.decode(video=0)
        ]


def encode(pictures: Pictures, path: Path, *, crf: int, pix_fmt: str) -> None:
    """H.264 by plain PyAV: the camera's codec, not ours."""
    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(24), options={"crf": str(crf)})
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.colorspace = stream.codec_context.color_primaries = 1
        stream.codec_context.color_trc = stream.codec_context.color_range = 1
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            shown = frame.reformat(format=pix_fmt, dst_colorspace="itu709")
            shown.colorspace = shown.color_primaries = shown.color_trc = shown.color_range = 1
            container.mux(stream.encode(shown))
        container.mux(stream.encode(None))


def light(pictures: Pictures) -> Tensor:
    codes = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    return codes**GAMMA


def codes(images: Tensor) -> Pictures:
    coded = (images.clamp(0, 1) ** (1 / GAMMA) * 255 + 0.5).byte()
    return [image.permute(1, 2, 0).contiguous().numpy() for image in coded]


def plain_average(pictures: Pictures) -> Pictures:
    """Each frame with its aligned neighbours, equally weighted."""
    images = light(pictures)
    flows = adjacent_flows(images, dis_pair)
    merged = []
    for i, image in enumerate(images):
        others = [warp(images[j], flows[i, j].shift) for j in (i - 1, i + 1) if 0 <= j < len(images)]
        merged.append(torch.stack([image, *others]).mean(0))
    return codes(torch.stack(merged))


def unsharp(pictures: Pictures) -> Pictures:
    soft = [cv2.GaussianBlur(picture, (0, 0), 2) for picture in pictures]
    return [cv2.addWeighted(p, 1.5, s, -0.5, 0) for p, s in zip(pictures, soft, strict=True)]


def single_frame(pictures: Pictures, *, shutter: float = 0.8, steps: int = 5) -> Pictures:
    """Richardson-Lucy of each frame alone, along its own motion."""
    images = light(pictures) + 1e-4
    vectors = velocities(adjacent_flows(images, dis_pair), images) * shutter
    sharp = images.clone()
    for k, (image, along) in enumerate(zip(images, vectors, strict=True)):
        for _ in range(steps):
            sharp[k] *= blur(image / blur(sharp[k], along).clamp_min(1e-4), along)
    return codes(sharp)


def our_folder(source: Path, scratch: Path) -> Pictures:
    deblur_video(source, scratch / "out")
    return read(scratch / "out")


def our_clip(source: Path, scratch: Path) -> Pictures:
    deblur_video(source, scratch / f"out_{source.name}")
    return decode(scratch / f"out_{source.name}")


def row(name: str, found: Pictures, given: Pictures, truth: Pictures) -> tuple[str, np.ndarray]:
    """PSNR, SSIM and the gain of the worst frame, per frame."""
    figures = [
        (psnr_codes(f, t), ssim_codes(f, t), psnr_codes(f, t) - psnr_codes(g, t))
        for f, g, t in zip(found, given, truth, strict=True)
    ]
    return name, np.array(figures)


def table(title: str, rows: Sequence[tuple[str, np.ndarray]]) -> str:
    given = rows[0][1]
    lines = [
        f"\n{title}\n",
        "| method | PSNR | gain | SSIM | gain | worst frame |",
        "|---|---|---|---|---|---|",
    ]
    for name, figures in rows:
        mean, start = figures.mean(axis=0), given.mean(axis=0)
        lines.append(
            f"| {name} | {mean[0]:.2f} | {mean[0] - start[0]:+.2f} | {mean[1]:.4f} |"
            f" {mean[1] - start[1]:+.4f} | {figures[:, 2].min():+.2f} |"
        )
    return "\n".join(lines)


def compare(given: Pictures, ours: Pictures, truth: Pictures) -> list[tuple[str, np.ndarray]]:
    """Ours beside do-nothing and what simpler means do with the same input."""
    found = {
        "input": given,
        "plain average of 3": plain_average(given),
        "unsharp mask": unsharp(given),
        "Richardson-Lucy, 1 frame": single_frame(given),
        "freezeframe": ours,
    }
    return [row(name, pictures, given, truth) for name, pictures in found.items()]


def pooled(tables: Sequence[list[tuple[str, np.ndarray]]]) -> list[tuple[str, np.ndarray]]:
    """The same methods over several sequences as one."""
    return [
        (rows[0][0], np.concatenate([figures for _, figures in rows])) for rows in zip(*tables, strict=True)
    ]


def as_folders(sequence: Path, scratch: Path) -> list[tuple[str, np.ndarray]]:
    return compare(read(sequence / "blur"), our_folder(sequence / "blur", scratch), read(sequence / "sharp"))


def as_clip(sequence: Path, scratch: Path, *, crf: int, pix_fmt: str) -> list[tuple[str, np.ndarray]]:
    clip = scratch / f"clip{crf}.mp4"
    encode(read(sequence / "blur"), clip, crf=crf, pix_fmt=pix_fmt)
    return compare(decode(clip), our_clip(clip, scratch), read(sequence / "sharp"))


def main() -> None:
    if not REDS.is_dir():
        raise SystemExit("the blurry/sharp pairs (../shared/data/test/reds) are not here")
    cases = {
        "REDS, 20 frames, PNG folders": as_folders,
        "REDS, near-lossless clips (H.264 crf 4, 4:4:4)": partial(as_clip, crf=4, pix_fmt="yuv444p"),
        "REDS, H.264 crf 23": partial(as_clip, crf=23, pix_fmt="yuv420p"),
    }
    for title, run in cases.items():
        tables = []
        for sequence in sorted(REDS.iterdir()):
            with tempfile.TemporaryDirectory() as scratch:
                tables.append(run(sequence, Path(scratch)))
        print(table(title, pooled(tables)), flush=True)


if __name__ == "__main__":
    main()
