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

from freezeframe.data.metrics.image import Codes, psnr_codes, srgb_codes
from freezeframe.data.metrics.temporal import light_of
from freezeframe.data.synthesis.demo.scenes import sports_scene
from freezeframe.data.types import Clip, Motion
from freezeframe.motion.flow.estimators import dis_pair
from freezeframe.pipeline.bench.methods import read
from freezeframe.pipeline.config import FuseConfig
from freezeframe.pipeline.stages.fuse import fuse
from freezeframe.pipeline.stages.measure import ChainedFlows, adjacent_flows, velocities

SHARED = Path(__file__).resolve().parents[3] / "shared"
PROTOTYPE = SHARED / "prototypes" / "multiframe_rl" / "mfrl.py"
REDS = SHARED / "data" / "test" / "reds"
SHUTTER, ITERATIONS, THREADS, TURNS = 0.8, 10, 2, 5

Pictures = list[Codes]


def prototype() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mfrl", PROTOTYPE)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{PROTOTYPE} is not a module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ours(pictures: Pictures, *, which: list[int], config: FuseConfig) -> Pictures:
    """Flows both ways between neighbours, velocities, ways and the deconvolution."""
    images = as_light(pictures)
    near = adjacent_flows(images, dis_pair)
    velocity = velocities(near, images)
    still = torch.zeros_like(velocity[:, 0])
    motion = Motion(flows=ChainedFlows(near), velocity=velocity, movers=still, shutter=SHUTTER)
    times = tuple(Fraction(t, 24) for t in range(len(images)))
    clip = Clip(images=images, times=times, shutter=SHUTTER, kept=range(len(images)))
    return [srgb_codes(image) for image in fuse(clip, motion, config, which=which).images]


def as_light(pictures: Pictures) -> torch.Tensor:
    return torch.stack([light_of(picture) for picture in pictures])


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def speed_table(mfrl: ModuleType) -> str:
    """Best of several turns, taken alternately, so that both see the same machine."""
    scene = sports_scene(1280, 720, seed=3)
    pictures = [srgb_codes(scene.blurred(float(t), shutter=SHUTTER)) for t in (8, 9, 10)]
    ten, usual = FuseConfig(radius=1, iterations=ITERATIONS), FuseConfig(radius=1)
    contenders: dict[str, Callable[[], object]] = {
        "prototype, 10 iterations": lambda: mfrl.mfrl_seq(pictures, n=ITERATIONS, idx=[1]),
        "freezeframe, 10 iterations": lambda: ours(pictures, which=[1], config=ten),
        "freezeframe, as many as it takes by default": lambda: ours(pictures, which=[1], config=usual),
        "the flows alone": lambda: adjacent_flows(as_light(pictures), dis_pair),
    }
    for work in contenders.values():
        work()  # compiles the kernels, starts the threads
    turns = [[seconds(work) for work in contenders.values()] for _ in range(TURNS)]
    best = dict(zip(contenders, np.min(turns, axis=0), strict=True))
    base = best["prototype, 10 iterations"]
    rows = [f"| {name} | {took:.2f} s | {base / took:.1f} |" for name, took in best.items()]
    head = "| one 720p frame from three | time | times as fast as the prototype |\n|---|---|---|"
    return "\n".join([head, *rows])


def quality_table(mfrl: ModuleType) -> str:
    """Both with ten iterations on the real pairs: speed is not bought with quality."""
    ten = FuseConfig(radius=1, iterations=ITERATIONS)
    gains: dict[str, list[float]] = {"prototype": [], "freezeframe": []}
    for sequence in sorted(REDS.iterdir()):
        given, truth = (
            [read(path) for path in sorted((sequence / kind).glob("*.png"))] for kind in ("blur", "sharp")
        )
        found = {
            "prototype": mfrl.mfrl_seq(given, n=ITERATIONS),
            "freezeframe": ours(given, which=list(range(len(given))), config=ten),
        }
        for name, pictures in found.items():
            gains[name] += [
                psnr_codes(f, t) - psnr_codes(g, t) for f, g, t in zip(pictures, given, truth, strict=True)
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
