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
from freezeframe.splatting.rasterizer.projected import Lens, Screen
from freezeframe.splatting.rasterizer.rasterization import rasterization

PROTOTYPE = Path(__file__).resolve().parents[3] / "shared" / "prototypes" / "rasterizer"
CAMERAS = 5  # sub-frames of an exposure
TURNS = 7
ROWS = 1  # of a picture that plain torch is timed on: its work is the same for every row

Values = tuple[Tensor, ...]
Renderer = Callable[..., tuple[Tensor, Tensor, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Gaussians of about `spread` pixels, so that some twenty of them lie over each pixel."""

    size: tuple[int, int]  # width, height
    count: int
    spread: float  # pixels

    @property
    def name(self) -> str:
        return f"{self.size[0]}x{self.size[1]}, {self.count // 1000}k"

    def scene(self) -> Values:
        """Means, quats, scales, opacities, colours, views a few pixels apart, intrinsics. float32."""
        random = torch.Generator().manual_seed(0)
        (width, height), n = self.size, self.count
        focal = 0.9 * width
        depth = 2 + 4 * torch.rand(n, generator=random)
        aside = (torch.rand(n, 2, generator=random) - 0.5) * 1.1 * torch.tensor([width, height]) / focal
        means = torch.cat([aside * depth[:, None], depth[:, None]], dim=1)
        scales = torch.exp(0.5 * torch.randn(n, 3, generator=random)) * (self.spread / focal * depth)[:, None]
        quats = torch.randn(n, 4, generator=random)
        opacities, colours = torch.rand(n, generator=random), torch.rand(n, 3, generator=random)
        views = torch.eye(4).repeat(CAMERAS, 1, 1)
        views[:, :3, 3] = 0.02 * torch.randn(CAMERAS, 3, generator=random)
        lens = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
        return means, quats, scales, opacities, colours, views, lens.repeat(CAMERAS, 1, 1)


CASES = [
    Case(size=(320, 180), count=5_000, spread=2.0),
    Case(size=(320, 180), count=30_000, spread=1.0),
    Case(size=(640, 360), count=5_000, spread=4.0),
    Case(size=(640, 360), count=30_000, spread=1.7),
]


def main() -> None:
    torch.set_num_threads(1)
    print(twin_table(CASES))
    if PROTOTYPE.is_dir():
        print(f"\n{prototype_table(CASES, prototype())}")
    print(f"\n{threads_table(CASES)}")


def twin_table(cases: Sequence[Case]) -> str:
    """Forward and backward of one sub-frame, one thread each."""
    rows = []
    with threads(1):
        for case in cases:
            work = {
                "twin": lambda case=case: twin_seconds(case),
                "kernels": lambda case=case: timed(ours(case)),
            }
            best = alternating(work, turns=3)
            mine = best["kernels"] / CAMERAS
            rows.append(
                f"| {case.name} | {best['twin']:.2f} s | {mine * 1e3:.1f} ms | {best['twin'] / mine:.0f} |"
            )
    head = f"""One sub-frame, forward and backward, one thread. Plain torch is timed on {ROWS} row of it
against all Gaussians, its projection on all of them, and counted for all rows.

| | plain torch | kernels | times as fast |
|---|---|---|---|
"""
    return head + "\n".join(rows)


def prototype_table(cases: Sequence[Case], theirs: ModuleType) -> str:
    """The whole call for five sub-frames, in turns, one thread each."""
    rows = []
    with threads(1):
        for case in cases:
            scene = case.scene()
            best = alternating(
                {
                    "prototype": lambda scene=scene, case=case: timed(
                        whole(theirs.rasterization, scene, case)
                    ),
                    "freezeframe": lambda scene=scene, case=case: timed(whole(rasterization, scene, case)),
                }
            )
            old, new = best["prototype"], best["freezeframe"]
            rows.append(f"| {case.name} | {old * 1e3:.0f} ms | {new * 1e3:.0f} ms | {new / old:.2f} |")
    head = f"""The whole call, {CAMERAS} sub-frames, forward and backward, one thread, best of {TURNS} turns.

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
                return timed(whole(rasterization, scene, case), clock=time.perf_counter)

        best = alternating({"1": lambda on=on: on(1), "2": lambda on=on: on(2)})
        one, two = best["1"], best["2"]
        rows.append(f"| {case.name} | {one * 1e3:.0f} ms | {two * 1e3:.0f} ms | {one / two:.2f} |")
    head = """The same call on one thread and on two, by the wall clock; only an idle machine tells.

| | one thread | two | times as fast |
|---|---|---|---|
"""
    return head + "\n".join(rows)


def ours(case: Case) -> Callable[[], None]:
    return whole(rasterization, case.scene(), case)


def whole(render: Renderer, scene: Values, case: Case) -> Callable[[], None]:
    """One call and its gradients, by everything that has one."""
    *parts, lenses = scene
    leaves = [part.clone().requires_grad_() for part in parts]
    upstream = torch.rand(CAMERAS, 3, case.size[1], case.size[0], generator=torch.Generator().manual_seed(1))
    upstream = upstream.permute(0, 2, 3, 1)  # as a loss of [C, 3, H, W] gives it

    def run() -> None:
        for leaf in leaves:
            leaf.grad = None
        pictures, _, _ = render(*leaves, lenses, *case.size)
        torch.autograd.backward(pictures, upstream)

    return run


def twin_seconds(case: Case) -> float:
    """What plain torch needs for one sub-frame."""
    means, quats, scales, opacities, colours, views, lenses = case.scene()
    leaves = [part.requires_grad_() for part in (means, quats, scales, opacities, views[:1].clone())]
    lens = Lens(size=case.size, near=0.01, far=1e10, blur=0.3, antialiased=False)

    def project() -> Screen:
        screen = reference.project(*leaves[:4], leaves[4], lenses[:1], lens)
        (screen.means.sum() + screen.conics.sum() + screen.depths.sum()).backward()
        return screen

    screen = project()
    seen = [part.detach().requires_grad_() for part in (screen.means, screen.conics, screen.opacities)]
    painted = colours[None].clone().requires_grad_()
    strip = Lens(size=(case.size[0], ROWS), near=0.01, far=1e10, blur=0.3, antialiased=False)

    def composite() -> None:
        given = Screen(
            means=seen[0],
            conics=seen[1],
            opacities=seen[2],
            depths=screen.depths.detach(),
            radii=screen.radii,
        )
        pictures, _ = reference.composite(given, painted, torch.zeros(1, 3), strip)
        pictures.sum().backward()

    return timed(project) + timed(composite) * case.size[1] / ROWS


def alternating(work: Mapping[str, Callable[[], float]], *, turns: int = TURNS) -> dict[str, float]:
    """Best of several turns, taken in turn, so that all see the same machine; the first is not counted."""
    for each in work.values():
        each()
    taken = [{name: each() for name, each in work.items()} for _ in range(turns)]
    return {name: min(turn[name] for turn in taken) for name in work}


def timed(work: Callable[[], object], *, clock: Callable[[], float] = time.process_time) -> float:
    """Seconds of work, of this process alone unless another clock is given; the second of two runs."""
    work()
    begun = clock()
    work()
    return clock() - begun


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
