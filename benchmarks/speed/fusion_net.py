"""The network's speed and memory: every way of running it, in ratios of one run.

Run: python -m benchmarks.speed.fusion_net   (about two minutes on two cores)
"""

from __future__ import annotations

import math
import os
import resource
import subprocess
import sys
import tempfile
import time

import torch

from freezeframe.models.registry.bundled import WEIGHTS, read_network
from freezeframe.models.runtime.autotune import Engine, recall, sample
from freezeframe.models.runtime.engine import engine, engines

CPU = torch.device("cpu")
FRAME = (720, 1280)
LARGE = (1080, 1920)
ROUNDS = 4


def picture(size: tuple[int, int]) -> torch.Tensor:
    """Evidence of `size`, cut from one whose sides suit `sample`."""
    height, width = size
    return sample(-(-height // 64) * 64, -(-width // 64) * 64)[..., :height, :width].contiguous()


def best_times(ways: dict[str, Engine], evidence: torch.Tensor) -> dict[str, float]:
    """Least seconds of each, measured in turns: a busy moment of the machine strikes them all."""
    seconds = dict.fromkeys(ways, math.inf)
    for turn in range(ROUNDS + 1):
        for name, way in ways.items():
            begun = time.perf_counter()
            way(evidence)
            if turn:  # the first one compiles
                seconds[name] = min(seconds[name], time.perf_counter() - begun)
    return seconds


def speed() -> None:
    network, evidence = read_network(WEIGHTS), picture(FRAME)
    plain = read_network(WEIGHTS)  # as torch runs it unless told otherwise
    chosen = engine(network, device=CPU)
    begun = time.perf_counter()
    chosen(evidence)
    settling = time.perf_counter() - begun
    bare = engines(network.to(memory_format=torch.channels_last), device=CPU, precision="auto")
    times = best_times({"plain fp32 eager": plain, **bare, "chosen": chosen}, evidence)
    fastest, eager = min(times[name] for name in bare), times["plain fp32 eager"]
    (entry,) = recall().values()
    print(f"| choice ({entry['engine']}) and first frame | {settling:.1f} s | |")
    for name, seconds in times.items():
        told = (
            f"{1000 * seconds:.0f} ms, {seconds / fastest:.2f} x the fastest, eager / {eager / seconds:.1f}"
        )
        print(f"| {name}, 720p | {told} | |")
    print(f"| chosen way over the fastest bare forward | {times['chosen'] / fastest:.2f} | <= 1.5 |")
    print(
        f"| plain fp32 eager over the chosen way | {eager / times['chosen']:.1f} | >= 4 on AMX |", flush=True
    )


def memory() -> None:
    run = engine(read_network(WEIGHTS), device=CPU)
    for _ in range(2):
        run(picture(LARGE))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"| peak memory of a process, two frames of 1080p | {peak:.2f} GB | <= 2.5 GB |")


def main() -> None:
    if "--part" in sys.argv:
        {"speed": speed, "memory": memory}[sys.argv[-1]]()
        return
    print("| what | measured | floor |\n|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as cache:
        # As the command line has it, and with nothing remembered at first.
        surroundings = {**os.environ, "GOMP_SPINCOUNT": "0", "XDG_CACHE_HOME": cache}
        for part in ("speed", "memory"):
            subprocess.run(
                [sys.executable, "-m", "benchmarks.speed.fusion_net", "--part", part],
                env=surroundings,
                check=True,
            )


if __name__ == "__main__":
    main()
