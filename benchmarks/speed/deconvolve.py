"""Time and gain of the deconvolution by the number of iterations: windows of three frames, flows included.

Run: python -m benchmarks.speed.deconvolve   (the gain needs ../shared/data; two minutes)
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.tables import markdown_table
from benchmarks.timing import best_interleaved, seconds_of
from freezeframe.data.metrics.image import psnr_srgb
from freezeframe.data.srgb import SrgbImage, linear_to_srgb, srgb_to_linear
from freezeframe.data.synthesis.demo.football import sports_scene
from freezeframe.data.types import Clip, Motion
from freezeframe.motion.flow.estimators import dis_pair
from freezeframe.pipeline.bench.methods import read
from freezeframe.pipeline.config import FuseConfig
from freezeframe.pipeline.stages.flows import ChainedFlows, adjacent_flows
from freezeframe.pipeline.stages.fuse import fuse
from freezeframe.pipeline.stages.measure import velocities

SHARED = Path(__file__).resolve().parents[3] / "shared"
REDS = SHARED / "data" / "test" / "reds"
SHUTTER, THREADS, ROUNDS = 0.8, 2, 5
CONFIGS = {
    "10 iterations": FuseConfig(radius=1, iterations=10),
    "iterations by blur length and noise": FuseConfig(radius=1),
}

Pictures = list[SrgbImage]


def run_freezeframe(pictures: Pictures, *, which: list[int], config: FuseConfig) -> Pictures:
    """Flows between neighbours, velocities, blur vectors and the deconvolution."""
    images = stack_linear(pictures)
    flows = adjacent_flows(images, dis_pair)
    velocity = velocities(flows, images)
    zeros = torch.zeros_like(velocity[:, 0])
    motion = Motion(flows=ChainedFlows(flows), velocity=velocity, independent_motion=zeros, shutter=SHUTTER)
    times = tuple(Fraction(t, 24) for t in range(len(images)))
    clip = Clip(images=images, times=times, shutter=SHUTTER, owned=range(len(images)))
    return [linear_to_srgb(image) for image in fuse(clip, motion, config, which=which).images]


def stack_linear(pictures: Pictures) -> torch.Tensor:
    return torch.stack([srgb_to_linear(picture) for picture in pictures])


def speed_table() -> str:
    """Best of several runs."""
    scene = sports_scene(1280, 720, seed=3)
    pictures = [linear_to_srgb(scene.blurred(float(t), shutter=SHUTTER)) for t in (8, 9, 10)]
    runs: dict[str, Callable[[], object]] = {
        name: partial(run_freezeframe, pictures, which=[1], config=config) for name, config in CONFIGS.items()
    }
    runs["flows alone"] = lambda: adjacent_flows(stack_linear(pictures), dis_pair)
    best = best_interleaved({name: partial(seconds_of, run) for name, run in runs.items()}, rounds=ROUNDS)
    rows = [[name, f"{seconds:.2f} s"] for name, seconds in best.items()]
    return markdown_table(["one 720p frame from three", "time"], rows)


def quality_table() -> str:
    """PSNR gain on REDS, 20 frames."""
    gains: dict[str, list[float]] = {name: [] for name in CONFIGS}
    for sequence in sorted(REDS.iterdir()):
        inputs, truths = (
            [read(path) for path in sorted((sequence / kind).glob("*.png"))] for kind in ("blur", "sharp")
        )
        for name, config in CONFIGS.items():
            restored = run_freezeframe(inputs, which=list(range(len(inputs))), config=config)
            gains[name] += [
                psnr_srgb(after, truth) - psnr_srgb(before, truth)
                for after, before, truth in zip(restored, inputs, truths, strict=True)
            ]
    rows = [[name, f"{np.mean(gain):+.2f} dB", f"{np.min(gain):+.2f} dB"] for name, gain in gains.items()]
    return markdown_table(["REDS, three frames", "mean gain", "worst frame"], rows)


def main() -> None:
    cv2.setNumThreads(THREADS)
    torch.set_num_threads(THREADS)
    print(speed_table(), flush=True)
    if REDS.is_dir():
        print(f"\n{quality_table()}")


if __name__ == "__main__":
    main()
