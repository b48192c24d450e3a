"""The blur operator, its adjoint and the sums of a Richardson-Lucy step: explicit vectors, scalars, Halide.

Each candidate runs in a process of its own, as numba reads NUMBA_SLP_VECTORIZE once. The processes take
turns, so that background load slows all of them alike; times are the best of several rounds. Halide needs an
interpreter: python -m venv HALIDE_VENV && HALIDE_VENV/bin/pip install halide numpy

Run: python -m benchmarks.speed.blur_operator [--halide HALIDE_VENV/bin/python] [--threads 1]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Operations = dict[str, Callable[[], Array]]
Inputs = dict[str, Array]

ROOT = Path(__file__).resolve().parents[2]
HEIGHT, WIDTH, REACH, CHANNELS, ROUNDS = 720, 1280, 12.0, 4, 15
F = np.float32
OPERATIONS = ("blur", "adjoint", "update")
CANDIDATES = {  # name: NUMBA_SLP_VECTORIZE
    "explicit vectors": "0",
    "scalars": "0",
    "scalars, SLP on": "1",
    "Halide": "0",
}


def make_inputs() -> Inputs:
    """A 720p image [H, W, 4], smooth blur vectors and offsets [2, H, W], confidence [H, W]."""
    rng = np.random.default_rng(1)

    def smooth(scale: float) -> Array:
        coarse = scale * rng.standard_normal((2, 5, 7))
        rows, columns = np.linspace(0, 4, HEIGHT), np.linspace(0, 6, WIDTH)
        down = np.stack([[np.interp(rows, range(5), column) for column in plane.T] for plane in coarse])
        return np.stack([[np.interp(columns, range(7), row) for row in plane.T] for plane in down]).astype(F)

    image = rng.random((HEIGHT, WIDTH, CHANNELS), F)
    image[..., 3] = 0
    return {
        "image": image,
        "vectors": smooth(REACH),
        "offset": smooth(3.0),
        "weight": rng.random((HEIGHT, WIDTH), F),
    }


def explicit_vectors(inputs: Inputs) -> Operations:
    from freezeframe.data.blur.operator_numba import blur_adjoint_kernel, blur_kernel
    from freezeframe.data.blur.richardson_lucy_numba import backproject_kernel

    return numba_operations(inputs, blur_kernel, blur_adjoint_kernel, backproject_kernel)


def scalars(inputs: Inputs) -> Operations:
    """The same arithmetic on floats; products are fused in the same way."""
    from benchmarks.speed.blur_scalars import block_functions, blur_kernels
    from freezeframe.data.blur import richardson_lucy_numba as module

    blur, adjoint = blur_kernels()
    blocks = block_functions()
    band = recompiled(module.backproject_band, **blocks)
    return numba_operations(
        inputs, blur, adjoint, recompiled(module.backproject_kernel, backproject_band=band)
    )


def recompiled(kernel: Any, **substitutes: Any) -> Any:
    """A numba kernel in which some functions are replaced by others."""
    from numba import njit

    options = {key: kernel.targetoptions[key] for key in ("parallel", "fastmath", "error_model")}
    function = kernel.py_func
    copy = FunctionType(function.__code__, {**function.__globals__, **substitutes}, function.__name__)
    return njit(**options)(copy)


def numba_operations(inputs: Inputs, blur: Any, adjoint: Any, update: Any) -> Operations:
    import torch

    from freezeframe.data.blur.operator_numba import add_bands, make_bands
    from freezeframe.data.blur.richardson_lucy_numba import (
        PIXEL,
        Images,
        ObservationKernelData,
        make_padded,
    )

    image, vectors, offset = inputs["image"], inputs["vectors"], inputs["offset"]
    bands, out = make_bands(offset, vectors), np.empty_like(image)
    observation = ObservationKernelData(
        torch.from_numpy(np.ascontiguousarray(image[..., :3].transpose(2, 0, 1))),
        torch.from_numpy(inputs["weight"]),
        blur_vector=torch.from_numpy(vectors),
        offset=torch.from_numpy(offset),
    )
    sharp = make_padded(HEIGHT, WIDTH, value=1.0)
    sharp[...] += np.random.default_rng(2).random(sharp.shape, F)
    total, adjoint_sum = np.empty_like(image), np.empty_like(sharp)

    def run_blur() -> Array:
        blur(image, offset, vectors, out)
        return out

    def run_adjoint() -> Array:
        adjoint(image, offset, vectors, bands)
        total[...] = 0
        add_bands(bands, total)
        return total

    def run_update() -> Array:
        adjoint_sum[...] = 0
        images = Images(
            sharp.reshape(-1), observation.observed.reshape(-1), adjoint_sum.reshape(-1), sharp.shape[1]
        )
        update(images, observation.blocks, observation.band_limits, observation.max_taps, PIXEL)
        return adjoint_sum

    return {"blur": run_blur, "adjoint": run_adjoint, "update": run_update}


def halide(inputs: Inputs) -> Operations:
    from benchmarks.speed.blur_halide import blur_operations

    return blur_operations(inputs)


BUILDERS = {
    "explicit vectors": explicit_vectors,
    "scalars": scalars,
    "scalars, SLP on": scalars,
    "Halide": halide,
}


def serve(name: str, folder: Path) -> None:
    """Run the operations that standard input names; answer with seconds."""
    with np.load(folder / "inputs.npz") as stored:
        inputs = dict(stored)
    operations = BUILDERS[name](inputs)
    results = {key: np.array(function()) for key, function in operations.items()}  # compiles
    np.savez(folder / f"{name}.npz", **results)
    print(*operations, flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        operations[line.strip()]()
        print(time.perf_counter() - start, flush=True)


def start_process(name: str, folder: Path, *, interpreter: str, threads: int) -> subprocess.Popen[str]:
    variables = {
        "NUMBA_SLP_VECTORIZE": CANDIDATES[name],
        "NUMBA_CACHE_DIR": str(folder / f"cache of {name}"),  # numba's cache key ignores the SLP switch
        "NUMBA_NUM_THREADS": str(threads),
        "HL_NUM_THREADS": str(threads),
    }
    return subprocess.Popen(
        [interpreter, "-m", "benchmarks.speed.blur_operator", "--process", name, str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
    )


def measure(folder: Path, *, halide: str | None, threads: int) -> dict[str, dict[str, float]]:
    """Best seconds by candidate and operation."""
    np.savez(folder / "inputs.npz", **make_inputs())
    names = [name for name in CANDIDATES if name != "Halide" or halide]
    processes = {
        name: start_process(
            name,
            folder,
            interpreter=halide if name == "Halide" and halide else sys.executable,
            threads=threads,
        )
        for name in names
    }
    best: dict[str, dict[str, float]] = {}
    for name, process in processes.items():
        assert process.stdout is not None
        best[name] = dict.fromkeys(process.stdout.readline().split(), float("inf"))
    for _ in range(ROUNDS):
        for operation in OPERATIONS:
            for name, process in processes.items():
                if operation in best[name]:
                    assert process.stdin is not None
                    assert process.stdout is not None
                    print(operation, file=process.stdin, flush=True)
                    seconds = float(process.stdout.readline())
                    best[name][operation] = min(best[name][operation], seconds)
    for process in processes.values():
        process.communicate()
    return best


def table(best: dict[str, dict[str, float]], folder: Path) -> str:
    reference = np.load(folder / "explicit vectors.npz")
    lines = ["| candidate | " + " | ".join(OPERATIONS) + " |", "|---|" + "---|" * len(OPERATIONS)]
    for name, seconds in best.items():
        results, cells = np.load(folder / f"{name}.npz"), []
        for key in OPERATIONS:
            if key not in seconds:
                cells.append("not written")
                continue
            difference = float(np.abs(results[key] - reference[key]).max())
            same = "same bits" if np.array_equal(results[key], reference[key]) else f"off by {difference:.0e}"
            ratio = seconds[key] / best["explicit vectors"][key]
            cells.append(f"{1e3 * seconds[key]:.1f} ms, {ratio:.2f}, {same}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--halide", help="an interpreter that has halide and numpy")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--process", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.process:
        serve(options.process[0], Path(options.process[1]))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(table(measure(folder, halide=options.halide, threads=options.threads), folder))


if __name__ == "__main__":
    main()
