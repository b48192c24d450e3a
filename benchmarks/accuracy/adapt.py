"""What a clip that holds sharp frames of its own teaches the network: `--adapt` on clips with known truth.

Each clip is 90 frames of a rendered scene, photographed noisily and compressed: for two thirds a pan with a
long shutter, then the same scene as slow as if filmed twenty times as fast, so that its frames are sharp.

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
        raise SystemExit("the held-out photos (../shared/data/test/photos) are not here")
    print(f"| clip | input | as shipped | `--adapt {minutes:g}` | what the command says |")
    print("|---|---|---|---|---|")
    for path in sorted(PHOTOS.glob("*.png")):
        with tempfile.TemporaryDirectory() as scratch:
            before, default, adapted, notes = score_clip(path, Path(scratch), minutes=minutes)
        gained = f"{default - before:+.2f} | {adapted - before:+.2f}"
        print(f"| {path.stem} | {before:.2f} dB | {gained} | {notes} |", flush=True)


def score_clip(photo: Path, scratch: Path, *, minutes: float) -> tuple[float, float, float, str]:
    """Mean PSNR over the fast frames of the input, of the default and after adapting; what was said of it."""
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
    shown = [decode(scratch / f"{name}.mp4", scratch / name) for name in ("clip", "plain", "adapted")]
    before, default, adapted = (mean(gains(folder, truths)) for folder in shown)
    return before, default, adapted, "; ".join(note for note in report.notes if "adapted" in note)


def gains(folder: Path, truths: list[SrgbImage]) -> Iterator[float]:
    pictures = sorted(folder.glob("*.png"))[:NUM_FAST]
    return (psnr_srgb(read(path), truth) for path, truth in zip(pictures, truths, strict=False))


def panned_scene(photo: Path) -> Scene:
    """A photograph across which a camera sweeps."""
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
    """What the camera recorded and the truth, frame by frame."""
    for k in range(FRAMES):
        speed_ratio = 1.0 if k < NUM_FAST else 1 / SLOWDOWN
        t = float(k) if k < NUM_FAST else NUM_FAST + (k - NUM_FAST) / SLOWDOWN
        linear = scene.blurred(t, shutter=SHUTTER * speed_ratio)
        (shot,) = record_clip([linear], NOISE, seed=k)
        yield shot, apply_tone_curve(scene.sharp(t), NOISE)


if __name__ == "__main__":
    main()
