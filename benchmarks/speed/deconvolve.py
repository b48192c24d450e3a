"""Time of a deconvolved 720p frame beside the prototype's: window of three, ten iterations, flows included.

Run: python -m benchmarks.speed.deconvolve   (needs ../shared/prototypes and ../shared/data; two minutes)
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import torch

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
PROTOTYPE = SHARED / "prototypes" / "multiframe_rl" / "mfrl.py"
REDS = SHARED / "data" / "test" / "reds"
SHUTTER, ITERATIONS, THREADS, ROUNDS = 0.8, 10, 2, 5

Pictures = list[SrgbImage]


def prototype() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mfrl", PROTOTYPE)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{PROTOTYPE} is not a module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_freezeframe(pictures: Pictures, *, which: list[int], config: FuseConfig) -> Pictures:
    """Flows both ways between neighbours, velocities, ways and the deconvolution."""
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


def seconds(function: Callable[[], object]) -> float:
    start_time = time.perf_counter()
    function()
    return time.perf_counter() - start_time


def speed_table(mfrl: ModuleType) -> str:
    """Best of several turns, taken alternately, so that both see the same machine."""
    scene = sports_scene(1280, 720, seed=3)
    pictures = [linear_to_srgb(scene.blurred(float(t), shutter=SHUTTER)) for t in (8, 9, 10)]
    ten, default = FuseConfig(radius=1, iterations=ITERATIONS), FuseConfig(radius=1)
    candidates: dict[str, Callable[[], object]] = {
        "prototype, 10 iterations": lambda: mfrl.mfrl_seq(pictures, n=ITERATIONS, idx=[1]),
        "freezeframe, 10 iterations": lambda: run_freezeframe(pictures, which=[1], config=ten),
        "freezeframe, as many as it takes by default": lambda: run_freezeframe(
            pictures, which=[1], config=default
        ),
        "the flows alone": lambda: adjacent_flows(stack_linear(pictures), dis_pair),
    }
    for function in candidates.values():
        function()  # compiles the kernels, starts the threads
    rounds = [[seconds(function) for function in candidates.values()] for _ in range(ROUNDS)]
    best = dict(zip(candidates, np.min(rounds, axis=0), strict=True))
    base = best["prototype, 10 iterations"]
    rows = [
        f"| {name} | {best_seconds:.2f} s | {base / best_seconds:.1f} |"
        for name, best_seconds in best.items()
    ]
    head = "| one 720p frame from three | time | times as fast as the prototype |\n|---|---|---|"
    return "\n".join([head, *rows])


def quality_table(mfrl: ModuleType) -> str:
    """Both with ten iterations on the real pairs: speed is not bought with quality."""
    ten = FuseConfig(radius=1, iterations=ITERATIONS)
    gains: dict[str, list[float]] = {"prototype": [], "freezeframe": []}
    for sequence in sorted(REDS.iterdir()):
        inputs, truth = (
            [read(path) for path in sorted((sequence / kind).glob("*.png"))] for kind in ("blur", "sharp")
        )
        outputs = {
            "prototype": mfrl.mfrl_seq(inputs, n=ITERATIONS),
            "freezeframe": run_freezeframe(inputs, which=list(range(len(inputs))), config=ten),
        }
        for name, pictures in outputs.items():
            gains[name] += [
                psnr_srgb(f, t) - psnr_srgb(g, t) for f, g, t in zip(pictures, inputs, truth, strict=True)
            ]
    rows = [f"| {name} | {np.mean(gain):+.2f} dB | {np.min(gain):+.2f} dB |" for name, gain in gains.items()]
    head = "| REDS, three frames, 10 iterations | mean gain | worst frame |\n|---|---|---|"
    return "\n".join([head, *rows])


def main() -> None:
    if not PROTOTYPE.is_file():
        raise SystemExit(f"the prototype ({PROTOTYPE}) is not here: nothing to compare with")
    cv2.setNumThreads(THREADS)
    torch.set_num_threads(THREADS)
    mfrl = prototype()
    print(speed_table(mfrl), flush=True)
    if REDS.is_dir():
        print(f"\n{quality_table(mfrl)}")


if __name__ == "__main__":
    main()
