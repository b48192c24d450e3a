"""Gain of test-time fine-tuning (`--adapt`) on clips with sharp frames of their own and known ground truth.

Each clip is 90 frames of a rendered scene, with sensor noise and compression: two thirds are a pan with a
long exposure, the rest the same pan twenty times slower, so that its frames are sharp.

Run: python -m benchmarks.accuracy.adapt [--minutes 2]   (needs ../shared/data; twenty minutes on two cores)
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import mean

import cv2
import numpy as np

from benchmarks.accuracy.quality import decode, encode, read, write
from freezeframe.data.metrics.image import psnr_srgb
from freezeframe.data.srgb import SrgbImage
from freezeframe.data.synthesis.degradations.camera_isp import Camera, apply_tone_curve, record_clip
from freezeframe.data.synthesis.scene2d.cutouts import premultiply
from freezeframe.data.synthesis.scene2d.layered_scene import Layer, Matrix, Scene
from freezeframe.data.synthesis.scene2d.motion import translation, zoom
from freezeframe.pipeline.config import Config
from freezeframe.pipeline.tasks.video import deblur_video

PHOTOS = Path(__file__).resolve().parents[3] / "shared" / "data" / "test" / "photos"
SIZE = (360, 640)  # rows and columns
FRAMES, NUM_FAST, SLOWDOWN = 90, 60, 20.0
SHUTTER, RATE = 0.7, 23
PAN_AMPLITUDE_PX, PERIOD = 150.0, 80.0  # pixels to either side, frames there and back
NOISE = Camera(contrast=0.85, shot=3e-4, read=2e-3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0)
    minutes = parser.parse_args().minutes
    if not PHOTOS.is_dir():
        raise SystemExit("needs the held-out photos in ../shared/data/test/photos")
    print(f"| clip | input | bundled network | `--adapt {minutes:g}` | note of the report |")
    print("|---|---|---|---|---|")
    for path in sorted(PHOTOS.glob("*.png")):
        with tempfile.TemporaryDirectory() as scratch:
            before, default, adapted, notes = score_clip(path, Path(scratch), minutes=minutes)
        gained = f"{default - before:+.2f} | {adapted - before:+.2f}"
        print(f"| {path.stem} | {before:.2f} dB | {gained} | {notes} |", flush=True)


def score_clip(photo: Path, scratch: Path, *, minutes: float) -> tuple[float, float, float, str]:
    """Mean PSNR in dB over the fast frames: input, default, fine-tuned; and the note of the report."""
    scene = panned_scene(photo)
    (scratch / "frames").mkdir()
    truths = []
    for i, (shot, truth) in enumerate(record_frames(scene)):
        write(scratch / "frames" / f"{i:06d}.png", shot)
        truths.append(truth)
    clip = encode(scratch / "frames", scratch / "clip.mp4", crf=RATE, pix_fmt="yuv420p")
    config = replace(Config(), fuse=replace(Config().fuse, fine_tune_minutes=minutes))
    deblur_video(clip, scratch / "plain.mp4")
    report = deblur_video(clip, scratch / "adapted.mp4", config=config)
    decoded = [decode(scratch / f"{name}.mp4", scratch / name) for name in ("clip", "plain", "adapted")]
    before, default, adapted = (mean(frame_psnrs(folder, truths)) for folder in decoded)
    return before, default, adapted, "; ".join(note for note in report.notes if "adapted" in note)


def frame_psnrs(folder: Path, truths: list[SrgbImage]) -> Iterator[float]:
    """PSNR in dB of each fast frame."""
    pictures = sorted(folder.glob("*.png"))[:NUM_FAST]
    return (psnr_srgb(read(path), truth) for path, truth in zip(pictures, truths, strict=False))


def panned_scene(photo: Path) -> Scene:
    """A photograph seen by a camera that pans to and fro."""
    encoded = np.ascontiguousarray(cv2.imread(str(photo))[..., ::-1])
    height, width = encoded.shape[:2]
    start_pose = (
        translation(SIZE[1] / 2, SIZE[0] / 2) @ zoom(SIZE[0] / height) @ translation(-width / 2, -height / 2)
    )

    def homography(t: float) -> Matrix:
        angle = 2 * math.pi * t / PERIOD
        moved: Matrix = (
            translation(PAN_AMPLITUDE_PX * math.sin(angle), 0.2 * PAN_AMPLITUDE_PX * math.cos(angle))
            @ start_pose
        )
        return moved

    texture = premultiply(encoded, None, sigma=0.4)
    return Scene(layers=(Layer(texture=texture, homography=homography, mirrored=True),), size=SIZE)


def record_frames(scene: Scene) -> Iterator[tuple[SrgbImage, SrgbImage]]:
    """The recorded frames and the ground truth."""
    for k in range(FRAMES):
        speed_ratio = 1.0 if k < NUM_FAST else 1 / SLOWDOWN
        t = float(k) if k < NUM_FAST else NUM_FAST + (k - NUM_FAST) / SLOWDOWN
        linear = scene.blurred(t, shutter=SHUTTER * speed_ratio)
        (shot,) = record_clip([linear], NOISE, seed=k)
        yield shot, apply_tone_curve(scene.sharp(t), NOISE)


if __name__ == "__main__":
    main()
