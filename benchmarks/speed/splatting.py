"""Splatting on the CPU: compiled kernels beside plain torch, beside the prototype, and on two threads.

Run: python -m benchmarks.speed.splatting   (two minutes; the prototype's columns need ../shared/prototypes)
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from freezeframe.splatting.rasterizer import torch_reference as reference
from freezeframe.splatting.rasterizer.projected import ProjectedGaussians, RasterSettings
from freezeframe.splatting.rasterizer.rasterization import rasterization

PROTOTYPE = Path(__file__).resolve().parents[3] / "shared" / "prototypes" / "rasterizer"
CAMERAS = 5  # sub-frames of an exposure
ROUNDS = 7
REFERENCE_ROWS = 1  # of a picture that plain torch is timed on: its work is the same for every row

Values = tuple[Tensor, ...]
Renderer = Callable[..., tuple[Tensor, Tensor, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Gaussians of about `footprint_px` pixels, so that some twenty of them lie over each pixel."""

    size: tuple[int, int]  # width, height
    count: int
    footprint_px: float  # pixels

    @property
    def name(self) -> str:
        return f"{self.size[0]}x{self.size[1]}, {self.count // 1000}k"

    def scene(self) -> Values:
        """Means, quats, scales, opacities, colours, views a few pixels apart, intrinsics. float32."""
        random = torch.Generator().manual_seed(0)
        (width, height), n = self.size, self.count
        focal = 0.9 * width
        depth = 2 + 4 * torch.rand(n, generator=random)
        lateral = (torch.rand(n, 2, generator=random) - 0.5) * 1.1 * torch.tensor([width, height]) / focal
        means = torch.cat([lateral * depth[:, None], depth[:, None]], dim=1)
        scales = (
            torch.exp(0.5 * torch.randn(n, 3, generator=random))
            * (self.footprint_px / focal * depth)[:, None]
        )
        quats = torch.randn(n, 4, generator=random)
        opacities, colours = torch.rand(n, generator=random), torch.rand(n, 3, generator=random)
        views = torch.eye(4).repeat(CAMERAS, 1, 1)
        views[:, :3, 3] = 0.02 * torch.randn(CAMERAS, 3, generator=random)
        K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
        return means, quats, scales, opacities, colours, views, K.repeat(CAMERAS, 1, 1)


CASES = [
    Case(size=(320, 180), count=5_000, footprint_px=2.0),
    Case(size=(320, 180), count=30_000, footprint_px=1.0),
    Case(size=(640, 360), count=5_000, footprint_px=4.0),
    Case(size=(640, 360), count=30_000, footprint_px=1.7),
]


def main() -> None:
    torch.set_num_threads(1)
    print(reference_table(CASES))
    if PROTOTYPE.is_dir():
        print(f"\n{prototype_table(CASES, prototype())}")
    print(f"\n{threads_table(CASES)}")


def reference_table(cases: Sequence[Case]) -> str:
    """Forward and backward of one sub-frame, one thread each."""
    rows = []
    with threads(1):
        for case in cases:
            work = {
                "twin": lambda case=case: reference_seconds(case),
                "kernels": lambda case=case: time_run(run_kernels(case)),
            }
            best = best_alternating(work, rounds=3)
            per_frame = best["kernels"] / CAMERAS
            rows.append(
                f"| {case.name} | {best['twin']:.2f} s | {per_frame * 1e3:.1f} ms |"
                f" {best['twin'] / per_frame:.0f} |"
            )
    head = f"""One sub-frame, forward and backward, one thread. Plain torch is timed on
{REFERENCE_ROWS} row of it against all Gaussians, its projection on all of them, and counted for all rows.

| | plain torch | kernels | times as fast |
|---|---|---|---|
"""
    return head + "\n".join(rows)


def prototype_table(cases: Sequence[Case], prototype_module: ModuleType) -> str:
    """The whole call for five sub-frames, in turns, one thread each."""
    rows = []
    with threads(1):
        for case in cases:
            scene = case.scene()
            best = best_alternating(
                {
                    "prototype": lambda scene=scene, case=case: time_run(
                        forward_backward(prototype_module.rasterization, scene, case)
                    ),
                    "freezeframe": lambda scene=scene, case=case: time_run(
                        forward_backward(rasterization, scene, case)
                    ),
                }
            )
            old, new = best["prototype"], best["freezeframe"]
            rows.append(f"| {case.name} | {old * 1e3:.0f} ms | {new * 1e3:.0f} ms | {new / old:.2f} |")
    head = f"""The whole call, {CAMERAS} sub-frames, forward and backward, one thread, best of {ROUNDS} turns.

| | prototype | freezeframe | share of its time |
|---|---|---|---|
"""
    return head + "\n".join(rows)


def threads_table(cases: Sequence[Case]) -> str:
    """One thread and two, in turns; the clock on the wall."""
    rows = []
    for case in cases:
        scene = case.scene()

        def on(count: int, scene: Values = scene, case: Case = case) -> float:
            with threads(count):
                return time_run(forward_backward(rasterization, scene, case), clock=time.perf_counter)

        best = best_alternating({"1": lambda on=on: on(1), "2": lambda on=on: on(2)})
        one, two = best["1"], best["2"]
        rows.append(f"| {case.name} | {one * 1e3:.0f} ms | {two * 1e3:.0f} ms | {one / two:.2f} |")
    head = """The same call on one thread and on two, by the wall clock; only an idle machine tells.

| | one thread | two | times as fast |
|---|---|---|---|
"""
    return head + "\n".join(rows)


def run_kernels(case: Case) -> Callable[[], None]:
    return forward_backward(rasterization, case.scene(), case)


def forward_backward(render: Renderer, scene: Values, case: Case) -> Callable[[], None]:
    """One call and its gradients, by everything that has one."""
    *parts, Ks = scene
    leaves = [part.clone().requires_grad_() for part in parts]
    upstream = torch.rand(CAMERAS, 3, case.size[1], case.size[0], generator=torch.Generator().manual_seed(1))
    upstream = upstream.permute(0, 2, 3, 1)  # as a loss of [C, 3, H, W] gives it

    def run() -> None:
        for leaf in leaves:
            leaf.grad = None
        pictures, _, _ = render(*leaves, Ks, *case.size)
        torch.autograd.backward(pictures, upstream)

    return run


def reference_seconds(case: Case) -> float:
    """What plain torch needs for one sub-frame."""
    means, quats, scales, opacities, colours, views, Ks = case.scene()
    leaves = [part.requires_grad_() for part in (means, quats, scales, opacities, views[:1].clone())]
    settings = RasterSettings(size=case.size, near=0.01, far=1e10, blur=0.3, antialiased=False)

    def project() -> ProjectedGaussians:
        projected = reference.project(*leaves[:4], leaves[4], Ks[:1], settings)
        (projected.means.sum() + projected.conics.sum() + projected.depths.sum()).backward()
        return projected

    projected = project()
    projected = [
        part.detach().requires_grad_() for part in (projected.means, projected.conics, projected.opacities)
    ]
    colors = colours[None].clone().requires_grad_()
    strip = RasterSettings(
        size=(case.size[0], REFERENCE_ROWS), near=0.01, far=1e10, blur=0.3, antialiased=False
    )

    def composite() -> None:
        screen_input = ProjectedGaussians(
            means=projected[0],
            conics=projected[1],
            opacities=projected[2],
            depths=projected.depths.detach(),
            radii=projected.radii,
        )
        pictures, _ = reference.composite(screen_input, colors, torch.zeros(1, 3), strip)
        pictures.sum().backward()

    return time_run(project) + time_run(composite) * case.size[1] / REFERENCE_ROWS


def best_alternating(work: Mapping[str, Callable[[], float]], *, rounds: int = ROUNDS) -> dict[str, float]:
    """Best of several turns, taken in turn, so that all see the same machine; the first is not counted."""
    for each in work.values():
        each()
    times = [{name: each() for name, each in work.items()} for _ in range(rounds)]
    return {name: min(round_times[name] for round_times in times) for name in work}


def time_run(work: Callable[[], object], *, clock: Callable[[], float] = time.process_time) -> float:
    """Seconds of work, of this process alone unless another clock is given; the second of two runs."""
    work()
    start_time = clock()
    work()
    return clock() - start_time


class threads:  # noqa: N801  # reads as a word
    """Kernels run on so many threads meanwhile."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __enter__(self) -> None:
        import numba

        self.before = numba.get_num_threads()
        numba.set_num_threads(min(self.count, numba.config.NUMBA_NUM_THREADS))

    def __exit__(self, *_: object) -> None:
        import numba

        numba.set_num_threads(self.before)


def prototype() -> ModuleType:
    sys.path.insert(0, str(PROTOTYPE))
    try:
        return importlib.import_module("gs_simd")
    finally:
        sys.path.remove(str(PROTOTYPE))


if __name__ == "__main__":
    main()
