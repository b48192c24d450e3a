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

from freezeframe.data.media.video_in.stream_info import ffmpeg_url
from freezeframe.data.media.video_out.encoder_choice import encoder_options
from freezeframe.data.srgb import linear_to_srgb
from freezeframe.data.synthesis.demo.football import sports_scene
from freezeframe.data.types import Clip, Motion
from freezeframe.motion.flow.estimators import dis_pair
from freezeframe.pipeline.config import Config, FuseConfig
from freezeframe.pipeline.stages.flows import ChainedFlows, adjacent_flows
from freezeframe.pipeline.stages.fuse import fuse
from freezeframe.pipeline.stages.measure import velocities
from freezeframe.pipeline.tasks.video import deblur_video

SHARED = Path(__file__).resolve().parents[3] / "shared"
CLIPS = SHARED / "data" / "test" / "clips"
PHOTO = SHARED / "data" / "test" / "photos" / "kodim01.png"
PROTOTYPE = SHARED / "prototypes" / "multiframe_rl" / "mfrl.py"
COMPUTE_STAGES = (
    "fuse",
    "fusion_network",
    "refine",
    "measure",
)  # the flows belong to the deconvolution, as in its own figure


def bare_transcode(source: Path, output: Path) -> None:
    """What PyAV alone needs: decode, encode with our settings, copy the audio packets."""
    with av.open(ffmpeg_url(source)) as demuxer, av.open(ffmpeg_url(output), "w") as muxer:
        picture = demuxer.streams.video[0]
        picture.thread_type = "AUTO"
        stream = muxer.add_stream("libx264", rate=picture.average_rate, options=encoder_options("h264"))
        stream.width, stream.height, stream.pix_fmt = picture.width, picture.height, picture.pix_fmt
        stream.codec_context.time_base = picture.time_base
        sound = {s.index: muxer.add_stream_from_template(s) for s in demuxer.streams.audio}
        for packet in demuxer.demux(picture, *demuxer.streams.audio):
            if packet.stream.type == "audio" and packet.dts is not None:
                packet.stream = sound[packet.stream.index]
                muxer.mux(packet)
            elif packet.stream.type == "video":
                for frame in packet.decode():
                    frame.pict_type = 0
                    muxer.mux(stream.encode(frame))
        muxer.mux(stream.encode(None))


def seconds(function: Callable[[], object]) -> float:
    start_time = time.perf_counter()
    function()
    return time.perf_counter() - start_time


def passthrough_ratio(scratch: Path) -> str:
    """Frame rate of a clip that the gate leaves alone, over that of a bare transcode; best of two each."""
    clip = CLIPS / "04_coffee.mp4"
    bare_seconds, ours = [], []
    for round_index in range(2):
        bare_seconds.append(
            seconds(lambda round_index=round_index: bare_transcode(clip, scratch / f"bare{round_index}.mp4"))
        )
        ours.append(
            seconds(lambda round_index=round_index: deblur_video(clip, scratch / f"ours{round_index}.mp4"))
        )
    return (
        f"| untouched clip, frame rate over a bare transcode | {min(bare_seconds) / min(ours):.2f} | >= 0.8 |"
    )


def overhead_fraction(scratch: Path) -> str:
    """Wall time outside of flow, deconvolution and networks, on two seconds of blurred 720p."""
    clip = scratch / "sports720.mp4"
    render(clip, size=(1280, 720), frames=60)
    report = deblur_video(clip, scratch / "sharp720.mp4")
    total = sum(report.seconds.values())
    ours = sum(report.seconds.get(stage, 0.0) for stage in COMPUTE_STAGES)
    fuse = report.seconds.get("fuse", 0.0) + report.seconds.get("fusion_network", 0.0)
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
    prototype_seconds = min(seconds(lambda: prototype.mfrl_seq(frames, idx=[1, 2, 3])) / 3 for _ in range(3))
    rows = []
    for steps, floor in ((10, ">= 4"), (5, "")):
        our_seconds = min(seconds(lambda steps=steps: three_frames(images, steps)) / 3 for _ in range(4))
        what = f"prototype's ten plain steps over our {steps} with momentum, 720p, window 3"
        rows.append(
            f"| {what} ({prototype_seconds:.2f} s / {our_seconds:.2f} s) |"
            f" {prototype_seconds / our_seconds:.1f} | {floor} |"
        )
    return "\n".join(rows)


def three_frames(images: torch.Tensor, steps: int) -> None:
    flows = adjacent_flows(images, dis_pair)
    velocity = velocities(flows, images)
    times = tuple(Fraction(i, 25) for i in range(len(images)))
    clip = Clip(images=images, times=times, shutter=0.8, owned=range(len(images)))
    zeros = velocity.new_zeros(len(images), *images.shape[2:])
    motion = Motion(flows=ChainedFlows(flows), velocity=velocity, independent_motion=zeros, shutter=0.8)
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
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(process.stdout.split()[-1])


def render(path: Path, *, size: tuple[int, int], frames: int) -> None:
    """A blurred clip of our own; long ones swing to and fro through the same sixteen frames."""
    scene = sports_scene(*size, seed=3)
    distinct = [linear_to_srgb(scene.blurred(float(t), shutter=0.6)) for t in range(min(frames, 16))]
    frame_cycle = [*distinct, *distinct[-2:0:-1]]
    with av.open(ffmpeg_url(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=Fraction(30), options={"crf": "14", "preset": "veryfast"}
        )
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for codes in islice(cycle(frame_cycle), frames):
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
            print(passthrough_ratio(scratch), flush=True)
        print(deconvolution_ratio(), flush=True)
        print(overhead_fraction(scratch), flush=True)
        print(memory_ratio(scratch, (100, 1000)), flush=True)


if __name__ == "__main__":
    main()
