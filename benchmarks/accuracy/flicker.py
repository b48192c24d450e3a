"""Temporal stability of the output's sharpness, beside that of the input, on rendered pans and real clips.

Run: python -m benchmarks.accuracy.flicker [CLIP ...]   (needs ../shared/data; about ten minutes on two cores)

The sharpness of a frame is the mean gradient of its luma. `step` is the largest change, from one frame to the
next, of output sharpness over input sharpness, in nepers; the input's own largest change stands beside it.
`flicker` is the mean absolute second difference of the logarithm of sharpness.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch

from freezeframe.data.color import SRGB, to_encoded
from freezeframe.data.media.photo.files import read_photo
from freezeframe.data.media.video_in.source import open_video
from freezeframe.data.metrics.temporal import Steadiness, smoothed_gradient, steadiness
from freezeframe.pipeline.bench.methods import read, write
from freezeframe.pipeline.config import Config
from freezeframe.pipeline.tasks.video import deblur_video

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
REAL = ("handheld_short.mp4", "bikes.mp4")
PHOTOS = ("elem_*.webp", "kodim*.webp")
SIZE = (240, 432)  # rows and columns of a rendered pan
SHUTTER = 0.7
SUBFRAMES = 24


def speeds(kind: str, count: int = 32) -> np.ndarray:
    """Speed of a rendered pan in pixels per frame."""
    time = np.arange(count) / (count - 1)
    if kind == "steady":
        return np.full(count, 12.0)
    if kind == "threshold":
        return np.linspace(1.5, 5.0, count)  # crosses the threshold of the gate
    return 14 * np.sin(np.pi * time) ** 2


def pan(photo: Path, kind: str, folder: Path) -> Path:
    """Render a pan over a photograph; frames as PNG."""
    linear = read_photo(photo).linear().permute(1, 2, 0).numpy()
    linear = cv2.resize(
        linear, (1400, round(linear.shape[0] * 1400 / linear.shape[1])), interpolation=cv2.INTER_AREA
    )
    speed = speeds(kind)
    offsets = np.concatenate([[0], np.cumsum(speed)[:-1]])
    folder.mkdir()
    rng = np.random.default_rng(3)
    for number, (start, step) in enumerate(zip(offsets, speed, strict=True)):
        positions = start + step * SHUTTER * ((np.arange(SUBFRAMES) + 0.5) / SUBFRAMES - 0.5)
        frame = np.mean([_view(linear, x) for x in positions], axis=0)
        encoded = to_encoded(torch.from_numpy(frame).float(), SRGB).numpy() * 255
        write(
            folder / f"{number:06d}.png",
            (encoded + rng.normal(0, 0.7, encoded.shape)).clip(0, 255).round().astype(np.uint8),
        )
    return folder


def _view(linear: np.ndarray, x: float) -> np.ndarray:
    travel = linear.shape[1] - SIZE[1] - 40
    x = abs((x + 20) % (2 * travel) - travel)  # reverses at the ends of the photograph
    matrix = np.array([[1, 0, -x], [0, 1, -40.0]])
    return cv2.warpAffine(
        linear, matrix, SIZE[::-1], flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT_101
    ).clip(0)


def frames_of(clip: Path) -> Iterator[np.ndarray]:
    if clip.is_dir():
        for path in sorted(clip.glob("*.png")):
            yield cv2.cvtColor(read(path), cv2.COLOR_RGB2GRAY)
    else:
        for frame in open_video(clip).frames():
            yield frame.picture.luma().numpy()


def score_clip(clip: Path, folder: Path, config: Config) -> tuple[Steadiness, Counter[str]]:
    output = folder / f"{clip.stem}-sharp"
    report = deblur_video(clip, output, config=config)
    before = [smoothed_gradient(luma) for luma in frames_of(clip)]
    after = [smoothed_gradient(luma) for luma in frames_of(output)]
    np.savetxt(folder / f"{clip.stem}.txt", np.array([before, after]).T)
    return steadiness(before, after), report.counts


def clips(folder: Path) -> Iterator[Path]:
    for photo in photos():
        for kind in ("steady", "threshold", "start and stop"):
            yield pan(photo, kind, folder / f"{photo.stem} {kind}")
    yield from (DATA / "test" / "clips" / name for name in REAL)


def photos(count: int = 2) -> list[Path]:
    return [photo for pattern in PHOTOS for photo in sorted((DATA / "train").glob(pattern))[:count]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="*", type=Path)
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or Path(scratch)
        folder.mkdir(exist_ok=True)
        print("| clip | deblurred | passthrough | fallback | step | input's step | flicker in | out |")
        print("|---|---|---|---|---|---|---|---|")
        for clip in args.clips or clips(folder):
            scores, counts = score_clip(clip, folder, Config())
            numbers = " | ".join(str(counts[action]) for action in ("deblurred", "passthrough", "fallback"))
            print(
                f"| {clip.stem} | {numbers} | {scores.step:.3f} | {scores.input_step:.3f} |"
                f" {scores.input_flicker:.4f} | {scores.flicker:.4f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
