"""Splatting on the CPU: compiled kernels against plain torch, and two threads against one.

Run: python -m benchmarks.speed.splatting   (two minutes)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.tables import markdown_table
from benchmarks.timing import best_interleaved, seconds_of
from freezeframe.splatting.rasterizer import torch_reference as reference
from freezeframe.splatting.rasterizer.projected import ProjectedGaussians, RasterSettings
from freezeframe.splatting.rasterizer.rasterization import rasterization

CAMERAS = 5  # sub-frames of an exposure
ROUNDS = 7
REFERENCE_ROWS = 1  # rows of the picture that plain torch is timed on: its work is the same for every row

Values = tuple[Tensor, ...]
Renderer = Callable[..., tuple[Tensor, Tensor, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Gaussians of about `footprint_px` pixels, so that about twenty of them cover each pixel."""

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
    print(f"\n{threads_table(CASES)}")


def reference_table(cases: Sequence[Case]) -> str:
    """Forward and backward of one sub-frame, one thread each."""
    rows = []
    with threads(1):
        for case in cases:
            work = {
                "torch": lambda case=case: reference_seconds(case),
                "kernels": lambda case=case: time_run(run_kernels(case)),
            }
            best = best_interleaved(work, rounds=3)
            torch_seconds, per_frame = best["torch"], best["kernels"] / CAMERAS
            speed_up = f"{torch_seconds / per_frame:.0f}"
            rows.append([case.name, f"{torch_seconds:.2f} s", f"{per_frame * 1e3:.1f} ms", speed_up])
    head = f"""One sub-frame, forward and backward, one thread. Plain torch is timed on {REFERENCE_ROWS} row
with all Gaussians and on their projection, and extrapolated to all rows.

"""
    return head + markdown_table(["", "plain torch", "kernels", "speed-up"], rows)


def threads_table(cases: Sequence[Case]) -> str:
    """One thread and two, interleaved, by wall time."""
    rows = []
    for case in cases:
        scene = case.scene()

        def on(count: int, scene: Values = scene, case: Case = case) -> float:
            with threads(count):
                return time_run(forward_backward(rasterization, scene, case), clock=time.perf_counter)

        best = best_interleaved({"1": lambda on=on: on(1), "2": lambda on=on: on(2)}, rounds=ROUNDS)
        one, two = best["1"], best["2"]
        rows.append([case.name, f"{one * 1e3:.0f} ms", f"{two * 1e3:.0f} ms", f"{one / two:.2f}"])
    head = "The same call on one thread and on two, by wall time; needs an idle machine.\n\n"
    return head + markdown_table(["", "one thread", "two", "speed-up"], rows)


def run_kernels(case: Case) -> Callable[[], None]:
    return forward_backward(rasterization, case.scene(), case)


def forward_backward(render: Renderer, scene: Values, case: Case) -> Callable[[], None]:
    """A function that renders once and computes the gradients of all parameters."""
    *parts, Ks = scene
    leaves = [part.clone().requires_grad_() for part in parts]
    upstream = torch.rand(CAMERAS, 3, case.size[1], case.size[0], generator=torch.Generator().manual_seed(1))
    upstream = upstream.permute(0, 2, 3, 1)  # the layout of the gradient of a loss of [C, 3, H, W]

    def run() -> None:
        for leaf in leaves:
            leaf.grad = None
        pictures, _, _ = render(*leaves, Ks, *case.size)
        torch.autograd.backward(pictures, upstream)

    return run


def reference_seconds(case: Case) -> float:
    """CPU time of plain torch for one sub-frame, in seconds."""
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


def time_run(work: Callable[[], object], *, clock: Callable[[], float] = time.process_time) -> float:
    """Seconds of the second of two runs, CPU time of this process unless another clock is given."""
    work()
    return seconds_of(work, clock=clock)


class threads:  # noqa: N801  # a context manager
    """Run the kernels on `count` threads within the block."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __enter__(self) -> None:
        import numba

        self.before = numba.get_num_threads()
        numba.set_num_threads(min(self.count, numba.config.NUMBA_NUM_THREADS))

    def __exit__(self, *_: object) -> None:
        import numba

        numba.set_num_threads(self.before)


if __name__ == "__main__":
    main()
