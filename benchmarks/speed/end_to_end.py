"""Ratios of time and memory, each measured in one run on the machine at hand.

Run: python -m benchmarks.speed.end_to_end   (six minutes on two cores; --frames 100 1000 for the memory row)
"""

from __future__ import annotations

import importlib.util
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path

import av
import cv2
import numpy as np
import torch

from freezeframe.data.media.video_in.stream_info import address
from freezeframe.data.media.video_out.sink import encoder_options
from freezeframe.data.metrics.image import srgb_codes
from freezeframe.data.synthesis.demo.scenes import sports_scene
from freezeframe.data.types import Clip, Motion
from freezeframe.motion.flow.estimators import dis_pair
from freezeframe.pipeline.config import Config, FuseConfig
from freezeframe.pipeline.stages.fuse import fuse
from freezeframe.pipeline.stages.measure import ChainedFlows, adjacent_flows, velocities
from freezeframe.pipeline.tasks.video import deblur_video

SHARED = Path(__file__).resolve().parents[3] / "shared"
CLIPS = SHARED / "data" / "test" / "clips"
PHOTO = SHARED / "data" / "test" / "photos" / "kodim01.png"
PROTOTYPE = SHARED / "prototypes" / "multiframe_rl" / "mfrl.py"
OURS = ("fuse", "refine", "measure")  # the flows belong to the deconvolution, as in its own figure


def bare_transcode(source: Path, output: Path) -> None:
    """What PyAV alone needs: decode, encode with our settings, copy the audio packets."""
    with av.open(address(source)) as given, av.open(address(output), "w") as made:
        picture = given.streams.video[0]
        picture.thread_type = "AUTO"
        stream = made.add_stream("libx264", rate=picture.average_rate, options=encoder_options("h264"))
        stream.width, stream.height, stream.pix_fmt = picture.width, picture.height, picture.pix_fmt
        stream.codec_context.time_base = picture.time_base
        sound = {s.index: made.add_stream_from_template(s) for s in given.streams.audio}
        for packet in given.demux(picture, *given.streams.audio):
            if packet.stream.type == "audio" and packet.dts is not None:
                packet.stream = sound[packet.stream.index]
                made.mux(packet)
            elif packet.stream.type == "video":
                for frame in packet.decode():
                    frame.pict_type = 0
                    made.mux(stream.encode(frame))
        made.mux(stream.encode(None))


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def untouched_ratio(scratch: Path) -> str:
    """Frame rate of a clip that the gate leaves alone, over that of a bare transcode; best of two each."""
    clip = CLIPS / "04_coffee.mp4"
    bare, ours = [], []
    for turn in range(2):
        bare.append(seconds(lambda turn=turn: bare_transcode(clip, scratch / f"bare{turn}.mp4")))
        ours.append(seconds(lambda turn=turn: deblur_video(clip, scratch / f"ours{turn}.mp4")))
    return f"| untouched clip, frame rate over a bare transcode | {min(bare) / min(ours):.2f} | >= 0.8 |"


def overhead_share(scratch: Path) -> str:
    """Wall time outside of flow, deconvolution and networks, on two seconds of blurred 720p."""
    clip = scratch / "sports720.mp4"
    render(clip, size=(1280, 720), frames=60)
    report = deblur_video(clip, scratch / "sharp720.mp4")
    total = sum(report.seconds.values())
    ours = sum(report.seconds.get(stage, 0.0) for stage in OURS)
    fuse = report.seconds.get("fuse", 0.0)
    return "\n".join(
        [
            f"| 720p job, share of all but flow, fuse and refine | {1 - ours / total:.1%} | <= 15 % |",
            f"| 720p job, share of all but fuse (flow counted as overhead) | {1 - fuse / total:.1%} | |",
            f"| 720p job, seconds per frame | {total / 60:.2f} | |",
            f"| 720p job, seconds per frame of flow, fuse and refine | {ours / 60:.2f} | <= 1.0 on AMX |",
        ]
    )


def deconvolution_ratio() -> str:
    """Time of the throw-away prototype over ours, per 720p frame of a clip: window 3, flows included."""
    if not PROTOTYPE.is_file():
        return "| multi-frame Richardson-Lucy against the prototype | its folder is not here | |"
    spec = importlib.util.spec_from_file_location("mfrl", PROTOTYPE)
    assert spec is not None
    assert spec.loader is not None
    prototype = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(prototype)
    photo = cv2.resize(cv2.imread(str(PHOTO)), (1400, 900))[..., ::-1]
    frames = [
        np.ascontiguousarray(photo[50 + 2 * k : 770 + 2 * k, 50 + 7 * k : 1330 + 7 * k]) for k in range(5)
    ]
    images = (torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 255) ** 2.2
    slow = min(seconds(lambda: prototype.mfrl_seq(frames, idx=[1, 2, 3])) / 3 for _ in range(3))
    rows = []
    for steps, floor in ((10, ">= 4"), (5, "")):
        quick = min(seconds(lambda steps=steps: three_frames(images, steps)) / 3 for _ in range(4))
        what = f"prototype's ten plain steps over our {steps} with momentum, 720p, window 3"
        rows.append(f"| {what} ({slow:.2f} s / {quick:.2f} s) | {slow / quick:.1f} | {floor} |")
    return "\n".join(rows)


def three_frames(images: torch.Tensor, steps: int) -> None:
    near = adjacent_flows(images, dis_pair)
    velocity = velocities(near, images)
    times = tuple(Fraction(i, 25) for i in range(len(images)))
    clip = Clip(images=images, times=times, shutter=0.8, kept=range(len(images)))
    still = velocity.new_zeros(len(images), *images.shape[2:])
    motion = Motion(flows=ChainedFlows(near), velocity=velocity, movers=still, shutter=0.8)
    fuse(clip, motion, FuseConfig(radius=1, iterations=steps), which=[1, 2, 3])


def memory_ratio(scratch: Path, frames: tuple[int, int]) -> str:
    """Peak memory of a long clip over that of a short one, each in a process of its own."""
    peaks = []
    for count in frames:
        clip = scratch / f"long{count}.mp4"
        render(clip, size=(320, 180), frames=count)
        peaks.append(peak_memory(clip, scratch / f"done{count}.mp4"))
    return f"| peak memory, {frames[1]} frames over {frames[0]} | {peaks[1] / peaks[0]:.3f} | <= 1.05 |"


def peak_memory(clip: Path, output: Path) -> int:
    """Peak resident set of one run, in kilobytes."""
    command = [sys.executable, "-m", "benchmarks.speed.end_to_end", "--one", str(clip), str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def render(path: Path, *, size: tuple[int, int], frames: int) -> None:
    """A blurred clip of our own; long ones swing to and fro through the same sixteen frames."""
    scene = sports_scene(*size, seed=3)
    distinct = [srgb_codes(scene.blurred(float(t), shutter=0.6)) for t in range(min(frames, 16))]
    swing = [*distinct, *distinct[-2:0:-1]]
    with av.open(address(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=Fraction(30), options={"crf": "14", "preset": "veryfast"}
        )
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for codes in islice(cycle(swing), frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(codes), "rgb24")))
        container.mux(stream.encode(None))


def main() -> None:
    if "--one" in sys.argv:
        clip, output = sys.argv[-2:]
        deblur_video(clip, output, config=Config())
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        print("| what | measured | floor |\n|---|---|---|")
        if CLIPS.is_dir():
            print(untouched_ratio(scratch), flush=True)
        print(deconvolution_ratio(), flush=True)
        print(overhead_share(scratch), flush=True)
        print(memory_ratio(scratch, (100, 1000)), flush=True)


if __name__ == "__main__":
    main()
