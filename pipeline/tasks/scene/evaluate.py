"""A rebuilt scene judged on views that it never saw, as DeblurGS judges (Lee et al. 2024).

The cameras of test views come from blurred neighbours or from another world's coordinates; so each is first
moved until the frozen scene fits best, and both figures are told, without and with.

Nothing here takes a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from freezeframe.data.metrics.image import psnr, ssim
from freezeframe.splatting.camera.lie import rigid_motions
from freezeframe.splatting.camera.trajectory import Views, pixel_scale
from freezeframe.splatting.optim.losses import tones
from freezeframe.splatting.optim.optimizer import Scene

STEPS = 200
RATE = 0.2  # pixels, falling to a tenth
PROTOCOL = (
    "PSNR and SSIM of 8-bit sRGB over whole held-out views, mean over views; aligned: each view's camera is"
    f" first moved by {STEPS} steps of Adam on the frozen scene (L1 of tones)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Means over the held-out views."""

    views: int
    psnr: float  # dB, cameras as given
    ssim: float
    psnr_aligned: float  # dB, cameras moved to fit
    ssim_aligned: float
    protocol: str = PROTOCOL


def evaluate(scene: Scene, truths: Tensor, views: Views) -> Judged:
    """Judge a frozen scene.

    Args:
        scene: Fitted without these views.
        truths: What was recorded, sharp. [N, 3, H, W] linear light.
        views: Their N cameras.
    """
    size = (truths.shape[2], truths.shape[3])
    rows = []
    for k, truth in enumerate(truths):
        one = Views(poses=views.poses[k : k + 1], lenses=views.lenses[k : k + 1])
        with torch.no_grad():
            given = scene(one, size)[0]
            fitted = scene(aligned(scene, truth, one), size)[0]
        rows.append([psnr(given, truth), ssim(given, truth), psnr(fitted, truth), ssim(fitted, truth)])
    means = torch.tensor(rows, dtype=torch.float64).mean(0).tolist()
    return Judged(
        views=len(truths), psnr=means[0], ssim=means[1], psnr_aligned=means[2], ssim_aligned=means[3]
    )


def aligned(scene: Scene, truth: Tensor, view: Views) -> Views:
    """The camera [1] moved by turns and ways until the scene shows the truth [3, H, W] best."""
    size = (truth.shape[1], truth.shape[2])
    depth = max(float(view.poses[0, :3, 3].norm()), 1.0)
    scale = pixel_scale(view.lenses[0], size, depth=depth)[:6].to(truth.device)
    twist = torch.zeros(6, device=truth.device, requires_grad=True)
    optimiser = torch.optim.Adam([twist], lr=RATE)
    with torch.enable_grad():
        for step in range(STEPS):
            optimiser.param_groups[0]["lr"] = RATE * 0.1 ** (step / STEPS)
            moved = Views(poses=rigid_motions(twist * scale) @ view.poses, lenses=view.lenses)
            loss = (tones(scene(moved, size)[0]) - tones(truth)).abs().mean()
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
    return Views(poses=(rigid_motions(twist.detach() * scale) @ view.poses), lenses=view.lenses)
