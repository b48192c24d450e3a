"""The laws hold on every processor: kernels as other code generators' targets make them, engines as other
instruction sets run them.

Each is a process of its own, as libraries choose once. The processor that the tests run on is in the ordinary
run; a target with instructions that it lacks is skipped.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
TARGETS = {  # of LLVM's code generator for x86, and the instructions that it will use beyond the first
    "generic": (),
    "haswell": ("avx2", "fma"),
    "skylake-avx512": ("avx512f", "avx512bw", "avx512dq", "avx512vl"),
    "sapphirerapids": ("avx512f", "avx512fp16", "avx512_bf16"),
}
KERNELS = (
    "data/blur/test_operator.py",
    "data/blur/test_richardson_lucy_numba.py",
    "pipeline/solvers/test_richardson_lucy.py",
)
GAUSSIANS = ("splatting/rasterizer/test_rasterization.py",)  # takes as long to compile as all of the above
KINDS: dict[str, dict[str, str]] = {  # PyTorch's own kernels, and those of oneDNN in it
    "plain": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "AVX-512": {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "all that is here": {},
}

SHARPEN = """
import sys, numpy as np, torch
from freezeframe.data.blur.operator import blur, blur_adjoint
from freezeframe.pipeline.solvers.observation import Observation
from freezeframe.pipeline.solvers.richardson_lucy import richardson_lucy
import numba
numba.set_num_threads(int(sys.argv[2]))
rng = torch.Generator().manual_seed(1)
linear = torch.rand(3, 120, 160, generator=rng)
blur_vector = 12 * torch.randn(1, 2, 5, 6, generator=rng)
blur_vector = torch.nn.functional.interpolate(blur_vector, (120, 160), mode="bilinear")[0]
blur_vector[:, :, :80] = 0
step_size = 1.8 * torch.ones(120, 160)
step_size[:, :80] = 0
weight = torch.ones(120, 160)
observations = [
    Observation(linear=linear.roll(k, 2), offset=k * blur_vector / 3, blur_vector=blur_vector, weight=weight)
    for k in (0, 1, -1)
]
sharp = richardson_lucy(linear, observations, steps=6, step_size=step_size)
assert torch.equal(sharp[:, :, :80], linear[:, :, :80]), "what rests keeps its bits"
still = blur(linear, torch.zeros_like(blur_vector))
assert torch.equal(still, linear), "no motion is no blur"
back = blur_adjoint(linear, blur_vector)
np.savez(sys.argv[1], sharp=sharp, blurred=blur(linear, blur_vector), handed_back=back)
"""

ANSWER = """
import sys, numpy as np, torch
from freezeframe.models.runtime.fusion import build_inference
from freezeframe.models.runtime.autotune import synthetic_input
from freezeframe.models.registry.bundled import WEIGHTS, read_network
network = read_network(WEIGHTS)
np.savez(sys.argv[1], **{
    f"{backend} {precision}": build_inference(network, device="cpu", precision=precision, backend=backend)(
        synthetic_input(128, 192)
    )
    for backend, precision in (word.split(":") for word in sys.argv[2:])
})
"""


@lru_cache(maxsize=1)
def instructions() -> frozenset[str]:
    """What the processor here can do, in the system's words."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    return frozenset(next((line.split(":")[1] for line in lines if line.startswith("flags")), "").split())


def require(*wanted: str) -> None:
    if missing := set(wanted) - instructions():
        pytest.skip(f"this processor has no {', '.join(sorted(missing))}")


def run(words: list[str], **variables: str) -> None:
    ended = subprocess.run(
        [sys.executable, *words],
        env={**os.environ, **variables},
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ended.returncode == 0, f"{variables}\n{ended.stdout[-4000:]}\n{ended.stderr[-4000:]}"


def of_target(name: str, cache: Path) -> dict[str, str]:
    return {
        "NUMBA_CPU_NAME": name,
        "NUMBA_CPU_FEATURES": "",
        "NUMBA_NUM_THREADS": "2",
        "NUMBA_CACHE_DIR": str(cache / name),
    }


@pytest.fixture(scope="module")
def kernels(tmp_path_factory) -> Path:
    """Where each target's compiled kernels are kept while these tests run."""
    pytest.importorskip("numba")
    return tmp_path_factory.mktemp("kernels")


@pytest.mark.parametrize("target", TARGETS)
def test_kernels_keep_their_laws_on(target, kernels):
    """Every law of the kernels, those that promise bits among them."""
    require("lm", *TARGETS[target])
    extreme = target in {"generic", "sapphirerapids"}
    tests = [str(HERE / each) for each in (*KERNELS, *(GAUSSIANS if extreme else ()))]
    # What tensors compute, and what compares both many times over, is no other on another target.
    chosen = ["-k", "not tensors] and not gpu", "-m", "not slow and not gpu"]
    run(["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *chosen, *tests], **of_target(target, kernels))


def test_bits_hang_on_the_processor_only(kernels, tmp_path):
    """On one thread or two the same bits; six steps on another target: within a tenth of an 8-bit code."""
    found = {}
    for target in (each for each, needed in TARGETS.items() if set(needed) <= instructions()):
        one, two = (tmp_path / f"{target} {threads}.npz" for threads in (1, 2))
        for threads, path in ((1, one), (2, two)):
            run(["-c", SHARPEN, str(path), str(threads)], **of_target(target, kernels))
        found[target] = same(one, two)
    if not found:
        pytest.skip("this is no x86 processor")
    for target, results in found.items():
        for what, values in results.items():
            apart = float(np.abs(values - found["generic"][what]).max())
            print(f"{target}: {what} differs from generic by {apart:.1e}")  # noqa: T201
            assert apart < 0.1 / 255, (target, what)


def test_kernels_compiled_just_now_give_the_bits_of_those_read_from_their_cache(kernels, tmp_path):
    """A job that was killed goes on with the latter: its frames must be those of the former."""
    new, kept = tmp_path / "new.npz", tmp_path / "kept.npz"
    for path in (new, kept):
        run(["-c", SHARPEN, str(path), "1"], NUMBA_NUM_THREADS="2", NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    same(new, kept)


TOGETHER = """
import sys, torch
from threading import Thread
from freezeframe.data.blur.operator import blur, blur_adjoint
from freezeframe.pipeline.solvers.observation import Observation
from freezeframe.pipeline.solvers.richardson_lucy import richardson_lucy
linear = torch.rand(3, 60, 80, generator=torch.Generator().manual_seed(1))
blur_vector = torch.tensor([7.0, 3.0])[:, None, None].repeat(1, 60, 80)
observations = [Observation(linear=linear, offset=None, blur_vector=blur_vector, weight=torch.ones(60, 80))]

def once():
    sharp = richardson_lucy(linear, observations, steps=3, step_size=torch.ones(60, 80))
    return torch.stack([sharp, blur(linear, blur_vector), blur_adjoint(linear, blur_vector)])

truth, answers = once(), []
threads = [Thread(target=lambda: answers.extend(once() for _ in range(50))) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(answers) == 100 and all(torch.equal(answer, truth) for answer in answers)
"""


def test_two_threads_at_once_each_get_their_own(kernels):
    """With numba's own threads, which end the process where two callers meet: all that some systems have."""
    own = {"NUMBA_THREADING_LAYER": "workqueue", "NUMBA_NUM_THREADS": "2"}
    run(["-c", TOGETHER], **own, NUMBA_CACHE_DIR=str(kernels / "here"))


def same(one: Path, other: Path) -> dict[str, np.ndarray]:
    with np.load(one) as left, np.load(other) as right:
        assert all(np.array_equal(left[key], right[key]) for key in left), (one.name, other.name)
        return dict(left)


def test_instruction_sets_and_number_formats_differ_by_rounding_only(tmp_path):
    """The shipped network: fp32 to a tenth of an 8-bit code of 255, bf16 to what `autotune` allows."""
    require("lm", "avx2")
    from freezeframe.models.runtime.autotune import AutotuneConfig

    tolerance = AutotuneConfig().tolerance

    every = ["torch:fp32", "torch:bf16"]
    # Held to other instructions than the processor has OpenVINO does not run: it is asked as it is.
    own = ["openvino:fp32", "openvino:bf16"] if importlib.util.find_spec("openvino") else []
    found = {}
    for name, variables in KINDS.items():
        if name == "AVX-512" and "avx512f" not in instructions():
            continue
        path = tmp_path / f"{name}.npz"
        run(["-c", ANSWER, str(path), *every, *([] if variables else own)], **variables)
        with np.load(path) as answers:
            found |= {f"{name} {key}": torch.from_numpy(value) for key, value in dict(answers).items()}
    truth = found["plain torch fp32"]
    assert truth.abs().max() > tolerance, "there is something to disagree on"
    for name, answer in found.items():
        apart = float((answer - truth).abs().max())
        print(f"{name} differs from plain torch fp32 by {apart:.1e}")  # noqa: T201
        assert apart <= (tolerance if name.endswith("bf16") else 0.1 / 255), name
