"""Render the samples of the package, reproducibly.

Run: python -m benchmarks.release.render_samples [--out FOLDER]   (two minutes on one core)
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from torch import Tensor

from freezeframe.data.media.video_in.frame_picture import frame_from_linear
from freezeframe.data.media.video_in.stream_info import ffmpeg_url
from freezeframe.data.samples import BURST_LENGTH
from freezeframe.data.srgb import linear_to_srgb
from freezeframe.data.synthesis.degradations.sensor import add_poisson_gaussian_noise
from freezeframe.data.synthesis.demo.bookshelf import bookshelf
from freezeframe.data.synthesis.demo.football import sports_scene
from freezeframe.data.synthesis.demo.handball import handball_scene
from freezeframe.data.synthesis.demo.handheld import handheld_scene
from freezeframe.data.synthesis.scene2d.layered_scene import Scene

SAMPLES = Path(__file__).resolve().parents[2] / "data" / "samples"
SIZE, RATE, SHUTTER = (640, 360), 30, 0.7
SPORTS_FRAMES, HANDBALL_FRAMES = 75, 15
SOUND_RATE = 48_000
BURST_SIZE, BURST_MARGIN, SHAKE = (720, 480), 40, 11.0


def write_clip(path: Path, images: Sequence[Tensor], *, crf: int, title: str) -> None:
    with av.open(ffmpeg_url(path), "w", options={"movflags": "faststart"}) as container:
        container.metadata["title"] = title
        container.metadata["comment"] = "Rendered by freezeframe, Apache-2.0"
        stream = container.add_stream("libx264", rate=RATE, options={"crf": str(crf), "preset": "veryslow"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        context = stream.codec_context
        context.color_range = context.color_primaries = context.color_trc = context.colorspace = 1
        # One thread: the same bytes on every machine.
        context.thread_count = 1
        sound = container.add_stream("aac", rate=SOUND_RATE, layout="mono")
        for image in images:
            container.mux(stream.encode(frame_from_linear(image, depth=8)))
        container.mux(stream.encode(None))
        for frame in audio_frames(len(images)):
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))


def whistle(frames: int) -> np.ndarray:
    """Float mono samples: crowd noise, and a referee's whistle after 0.25 and 1.5 seconds."""
    t = np.arange(frames * SOUND_RATE // RATE) / SOUND_RATE
    rng = np.random.default_rng(0)
    murmur = np.convolve(rng.standard_normal(len(t)), np.hanning(64) / 32, mode="same")
    murmur *= 0.05 * (1 + 0.5 * np.sin(2 * np.pi * 0.7 * t))
    trill = np.sin(2 * np.pi * 2900 * t + 6 * np.sin(2 * np.pi * 38 * t))
    envelope = sum(np.clip(8 * (length / 2 - abs(t - at)), 0, 1) for at, length in ((0.45, 0.4), (1.9, 0.8)))
    return (murmur + 0.16 * trill * envelope).astype(np.float32)


def audio_frames(frames: int) -> Iterator[av.AudioFrame]:
    sound = whistle(frames)
    for first in range(0, len(sound), 1024):
        frame = av.AudioFrame.from_ndarray(sound[None, first : first + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, first, Fraction(1, SOUND_RATE)
        yield frame


def render_clip(folder: Path, name: str, scene: Scene, *, frames: int, title: str) -> None:
    times = range(frames)
    blurred = [scene.blurred(float(t), shutter=SHUTTER) for t in times]
    noisy = [add_poisson_gaussian_noise(blurred[t], shot=1e-4, read=1e-3, seed=t) for t in times]
    write_clip(folder / f"{name}.mp4", noisy, crf=15, title=f"{title}, blurred")
    sharp = [scene.sharp(float(t)) for t in times]
    write_clip(folder / f"{name}_truth.mp4", sharp, crf=19, title=f"{title}, exact truth")


def write_photo(path: Path, image: Tensor, *, quality: int) -> None:
    cv2.imwrite(str(path), linear_to_srgb(image)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])


def render_burst(folder: Path) -> None:
    width, height = BURST_SIZE
    subject = bookshelf(width + 2 * BURST_MARGIN, height + 2 * BURST_MARGIN, seed=11)
    scene = handheld_scene(subject, shake=SHAKE, seed=5, margin=BURST_MARGIN)
    for photo in range(BURST_LENGTH):
        shaken = scene.blurred(float(photo), shutter=1.0)
        noisy = add_poisson_gaussian_noise(shaken, shot=4e-4, read=2e-3, seed=photo)
        write_photo(folder / f"burst_{photo + 1}.jpg", noisy, quality=92)
        write_photo(folder / f"burst_truth_{photo + 1}.jpg", scene.sharp(float(photo)), quality=87)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--out", type=Path, default=SAMPLES)
    folder = options.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    still_camera = handball_scene(*SIZE, seed=3)
    render_clip(folder, "handball", still_camera, frames=HANDBALL_FRAMES, title="Still camera, fast player")
    panning_camera = sports_scene(*SIZE, seed=7, frames=SPORTS_FRAMES)
    render_clip(folder, "sports", panning_camera, frames=SPORTS_FRAMES, title="Fast action")
    render_burst(folder)
    for path in sorted(folder.glob("*.[mj]p*")):
        print(f"{path.name:24} {path.stat().st_size / 1e3:7.0f} kB")


if __name__ == "__main__":
    main()
