"""Ratio of the time of `freezeframe.probe` in another checkout over that in this one, measured in one run.

Run: python -m benchmarks.speed.probe --before CHECKOUT   (a minute; 72 frames of 1080p)

CHECKOUT is the root of another working tree of this repository, such as that of
`git worktree add --detach /tmp/before f5d17af`. Each run is a process of its own; the start does not count.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from functools import partial
from itertools import islice
from pathlib import Path

import av

from benchmarks.timing import best_interleaved
from freezeframe.data.media.video_in.stream_info import ffmpeg_url

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT.parent / "shared" / "data" / "test" / "clips" / "tennis_amateur.mp4"
FRAMES = 72

TIMER = """
import sys, time
from freezeframe.pipeline.tasks.probe.run import probe
start = time.perf_counter()
probe(sys.argv[1])
print(time.perf_counter() - start)
"""


def write_clip(source: Path, output: Path, frames: int) -> None:
    """The first frames of a clip, encoded again."""
    with av.open(ffmpeg_url(source)) as demuxer, av.open(ffmpeg_url(output), "w") as muxer:
        picture = demuxer.streams.video[0]
        stream = muxer.add_stream("libx264", rate=30, options={"crf": "18", "preset": "fast"})
        stream.width, stream.height, stream.pix_fmt = picture.width, picture.height, "yuv420p"
        for frame in islice(demuxer.decode(picture), frames):
            frame.pict_type = 0
            muxer.mux(stream.encode(frame))
        muxer.mux(stream.encode(None))


def seconds_of_probe(package: Path, clip: Path) -> float:
    """Seconds of one probe by the package in folder `package`, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(package)}
    command = [sys.executable, "-c", TIMER, str(clip)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=package)
    return float(run.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, required=True, help="root of the other checkout")
    parser.add_argument("--source", type=Path, default=SOURCE)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        timers = {}
        for name, root in (("before", options.before.resolve()), ("now", ROOT)):
            (scratch / name).mkdir()
            (scratch / name / "freezeframe").symlink_to(root)
            timers[name] = partial(seconds_of_probe, scratch / name, scratch / "clip.mp4")
        write_clip(options.source, scratch / "clip.mp4", FRAMES)
        seconds = best_interleaved(timers, rounds=options.rounds)
    print("| what | measured | floor |\n|---|---|---|")
    ratio = seconds["before"] / seconds["now"]
    both = f"{seconds['before']:.1f} s over {seconds['now']:.1f} s"
    print(f"| probe of {FRAMES} frames, {both} | {ratio:.1f} | >= 5 |")


if __name__ == "__main__":
    main()
