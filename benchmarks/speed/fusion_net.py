"""Speed and memory of the fusion network on every backend, in ratios within one run.

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
from freezeframe.models.runtime.autotune import Run, synthetic_input
from freezeframe.models.runtime.backends import available_backends
from freezeframe.models.runtime.fusion import build_inference, fusion_model
from freezeframe.models.runtime.timing_cache import load_cache

CPU = torch.device("cpu")
FRAME = (720, 1280)
LARGE = (1080, 1920)
ROUNDS = 4


def picture(size: tuple[int, int]) -> torch.Tensor:
    """A network input of `size`, cropped from one with sides that suit `synthetic_input`."""
    height, width = size
    return synthetic_input(-(-height // 64) * 64, -(-width // 64) * 64)[..., :height, :width].contiguous()


def best_times(backends: dict[str, Run], network_input: torch.Tensor) -> dict[str, float]:
    """Smallest time of each in seconds. Runs are interleaved: background load affects all."""
    seconds = dict.fromkeys(backends, math.inf)
    for round_index in range(ROUNDS + 1):
        for name, backend in backends.items():
            start_time = time.perf_counter()
            backend(network_input)
            if round_index:  # the first one compiles
                seconds[name] = min(seconds[name], time.perf_counter() - start_time)
    return seconds


def speed() -> None:
    network, network_input = read_network(WEIGHTS), picture(FRAME)
    eager_network = read_network(WEIGHTS)  # the default of torch
    selected = build_inference(network, device=CPU)
    start_time = time.perf_counter()
    selected(network_input)
    startup_seconds = time.perf_counter() - start_time
    bare_backends = available_backends(fusion_model(network, CPU), device=CPU)
    times = best_times(
        {"plain fp32 eager": eager_network, **bare_backends, "chosen": selected}, network_input
    )
    fastest, eager = min(times[name] for name in bare_backends), times["plain fp32 eager"]
    (entry,) = load_cache().values()
    print(f"| choice ({entry['backend']}) and first frame | {startup_seconds:.1f} s | |")
    for name, seconds in times.items():
        cells = (
            f"{1000 * seconds:.0f} ms, {seconds / fastest:.2f} x the fastest, eager / {eager / seconds:.1f}"
        )
        print(f"| {name}, 720p | {cells} | |")
    print(f"| selected backend over the fastest bare forward | {times['chosen'] / fastest:.2f} | <= 1.5 |")
    ratio = eager / times["chosen"]
    print(f"| plain fp32 eager over the selected backend | {ratio:.1f} | >= 4 on AMX |", flush=True)


def memory() -> None:
    run = build_inference(read_network(WEIGHTS), device=CPU)
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
        # The environment of the command line, with an empty cache.
        environment = {**os.environ, "GOMP_SPINCOUNT": "0", "XDG_CACHE_HOME": cache}
        for part in ("speed", "memory"):
            subprocess.run(
                [sys.executable, "-m", "benchmarks.speed.fusion_net", "--part", part],
                env=environment,
                check=True,
            )


if __name__ == "__main__":
    main()
