"""Time of a clip whose movers cover 1 % of the frame, over that of the same scene processed as whole frames.

Run: python -m benchmarks.speed.still_camera   (ten minutes on two cores; needs ../shared/data)

The camera stands still before two players and a ball in the one clip, and pans in the other: then the whole
frame is blurred. Both are processed with the default options, in one run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from benchmarks.movers.backgrounds import CameraPath, photograph
from benchmarks.movers.fast import path
from benchmarks.movers.scenes import exposure, mover_mask
from benchmarks.movers.shot import ClipFormat, Shot
from freezeframe.data.media.video_in.stream_info import ffmpeg_url
from freezeframe.data.srgb import linear_to_srgb
from freezeframe.data.synthesis.scene2d.cutouts import PIXEL_SIGMA, premultiply
from freezeframe.data.synthesis.scene2d.layered_scene import Layer, Scene
from freezeframe.data.synthesis.scene2d.motion import translation, zoom
from freezeframe.data.synthesis.scene2d.movers import ball, person
from freezeframe.pipeline.tasks.video import deblur_video

SIZE = (1080, 1920)
PHOTOGRAPH = "elem_Brown_Architecture"
PAN = 12.0  # pixels per frame interval
SHUTTER = 0.6  # exposure time over frame interval
SEED = 4


def shot(camera: CameraPath, frames: int) -> Shot:
    """Two players, of whom one swings arms and legs, and a ball, before a photograph."""
    rng, clip = np.random.default_rng(SEED), ClipFormat(SIZE, frames)
    run, facing = path(rng, clip, speed=(14, 18), reach=160, steepness=0.05)
    walk, other = path(rng, clip, speed=(12, 16), reach=160, steepness=0.05)
    throw, _ = path(rng, clip, speed=(24, 30), reach=60, steepness=0.4)
    layers = (
        _background(camera),
        *person(rng, camera.shaken(run), height=200, facing=facing, stride_rate=0.05),
        *person(rng, camera.shaken(walk), height=180, facing=other),
        ball(rng, camera.shaken(throw), diameter=30),
    )
    return Shot(scene=Scene(layers=layers, size=SIZE), frames=frames, shutter=SHUTTER)


def _background(camera: CameraPath) -> Layer:
    picture = photograph(np.random.default_rng(0), (PHOTOGRAPH,))
    scale = zoom(1.1 * SIZE[1] / picture.shape[1])
    return Layer(
        texture=premultiply(picture, None, sigma=PIXEL_SIGMA),
        homography=lambda t: camera.view(t) @ translation(-0.05 * SIZE[1], -0.05 * SIZE[0]) @ scale,
        mirrored=True,
    )


def write_clip(recorded: Shot, file: Path) -> float:
    """Encode the shot, and return the fraction of the frame that movers cover during an exposure."""
    with av.open(ffmpeg_url(file), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(30), options={"crf": "18", "preset": "fast"})
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        for number in range(recorded.frames):
            picture = np.ascontiguousarray(linear_to_srgb(exposure(recorded, number)))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode(None))
    covered = [float(mover_mask(recorded, number).float().mean()) for number in range(0, recorded.frames, 6)]
    return sum(covered) / len(covered)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--frames", type=int, default=24)
    options = parser.parse_args()
    print("| what | measured | floor |\n|---|---|---|", flush=True)
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, camera in (("still camera", CameraPath()), ("panning camera", CameraPath(pan=PAN))):
            clip, output = Path(folder) / f"{name}.mp4", Path(folder) / f"{name} sharp.mp4"
            covered = write_clip(shot(camera, options.frames), clip)
            start = time.perf_counter()
            report = deblur_video(clip, output)
            total = time.perf_counter() - start
            seconds[name] = total / options.frames
            changed = report.counts["deblurred"]
            what = f"movers cover {covered:.1%}; {changed} of {options.frames} frames changed"
            print(f"| {name}, seconds per frame ({what}) | {seconds[name]:.2f} | |")
            for stage, stage_seconds in sorted(report.seconds.items(), key=lambda item: -item[1]):
                if stage_seconds >= 0.01 * total:
                    print(f"| {name}, {stage} | {stage_seconds / options.frames:.3f} | |", flush=True)
    ratio = seconds["panning camera"] / seconds["still camera"]
    print(f"| whole frames over movers only | {ratio:.1f} | >= 10 |")


if __name__ == "__main__":
    main()
