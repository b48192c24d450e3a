"""Ratios of time and memory of the complete command, each measured within one run.

Run: python -m benchmarks.speed.end_to_end   (six minutes on two cores; --frames 100 1000 for the memory row)
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from fractions import Fraction
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import av
import numpy as np

from benchmarks.timing import seconds_of
from freezeframe.data.media.video_in.stream_info import ffmpeg_url
from freezeframe.data.media.video_out.encoder_choice import encoder_options
from freezeframe.data.srgb import linear_to_srgb
from freezeframe.data.synthesis.demo.football import sports_scene
from freezeframe.pipeline.config import Config
from freezeframe.pipeline.tasks.video import deblur_video

SHARED = Path(__file__).resolve().parents[3] / "shared"
CLIPS = SHARED / "data" / "test" / "clips"
COMPUTE_STAGES = ("fuse", "refine", "measure")  # the flows count as part of the deconvolution


def bare_transcode(source: Path, output: Path) -> None:
    """A transcode with plain PyAV: decode, encode with our settings, copy the audio packets."""
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


def passthrough_ratio(scratch: Path) -> str:
    """Frame rate of a clip without blur over that of a bare transcode; best of two each."""
    clip = CLIPS / "04_coffee.mp4"
    bare_seconds, ours = [], []
    for i in range(2):
        bare_seconds.append(seconds_of(partial(bare_transcode, clip, scratch / f"bare{i}.mp4")))
        ours.append(seconds_of(partial(deblur_video, clip, scratch / f"ours{i}.mp4")))
    ratio = min(bare_seconds) / min(ours)
    return f"| clip without blur, frame rate over a bare transcode | {ratio:.2f} | >= 0.8 |"


def overhead_fraction(scratch: Path) -> str:
    """Fraction of wall time outside of flow, deconvolution and networks, on two seconds of blurred 720p."""
    clip = scratch / "sports720.mp4"
    render(clip, size=(1280, 720), frames=60)
    report = deblur_video(clip, scratch / "sharp720.mp4")
    total = sum(report.seconds.values())
    ours = sum(report.seconds.get(stage, 0.0) for stage in COMPUTE_STAGES)
    fuse = report.seconds.get("fuse", 0.0) + report.seconds.get("fusion_network", 0.0)
    return "\n".join(
        [
            f"| 720p clip, fraction outside of flow, fuse and refine | {1 - ours / total:.1%} | <= 15 % |",
            f"| 720p clip, fraction outside of fuse (flow counted as overhead) | {1 - fuse / total:.1%} | |",
            f"| 720p job, seconds per frame | {total / 60:.2f} | |",
            f"| 720p job, seconds per frame of flow, fuse and refine | {ours / 60:.2f} | <= 1.0 on AMX |",
        ]
    )


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
    """Render a blurred clip; long ones repeat the same sixteen frames forth and back."""
    scene = sports_scene(*size, seed=3)
    distinct = [linear_to_srgb(scene.blurred(float(t), shutter=0.6)) for t in range(min(frames, 16))]
    frame_cycle = [*distinct, *distinct[-2:0:-1]]
    with av.open(ffmpeg_url(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=Fraction(30), options={"crf": "14", "preset": "veryfast"}
        )
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for encoded in islice(cycle(frame_cycle), frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(encoded), "rgb24")))
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
        print(overhead_fraction(scratch), flush=True)
        print(memory_ratio(scratch, (100, 1000)), flush=True)


if __name__ == "__main__":
    main()
