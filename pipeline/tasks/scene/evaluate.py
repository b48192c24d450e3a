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
from freezeframe.splatting.camera.lie import se3_exp
from freezeframe.splatting.camera.trajectory import Views, pixel_scale
from freezeframe.splatting.optim.losses import sqrt_encode
from freezeframe.splatting.optim.optimizer import SceneModel

STEPS = 200
LEARNING_RATE_PX = 0.2  # pixels, falling to a tenth
PROTOCOL = (
    "PSNR and SSIM of 8-bit sRGB over whole held-out views, mean over views; aligned: each view's camera is"
    f" first moved by {STEPS} steps of Adam on the frozen scene (L1 of tones)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalMetrics:
    """Means over the held-out views."""

    views: int
    psnr: float  # dB, cameras as given
    ssim: float
    psnr_aligned: float  # dB, cameras moved to fit
    ssim_aligned: float
    protocol: str = PROTOCOL


def evaluate(scene: SceneModel, truths: Tensor, views: Views) -> EvalMetrics:
    """Judge a frozen scene.

    Args:
        scene: Fitted without these views.
        truths: What was recorded, sharp. [N, 3, H, W] linear light.
        views: Their N cameras.
    """
    size = (truths.shape[2], truths.shape[3])
    rows = []
    for k, truth in enumerate(truths):
        one = Views(viewmats=views.viewmats[k : k + 1], Ks=views.Ks[k : k + 1])
        with torch.no_grad():
            rendered = scene(one, size)[0]
            rendered_aligned = scene(align_camera(scene, truth, one), size)[0]
        rows.append(
            [
                psnr(rendered, truth),
                ssim(rendered, truth),
                psnr(rendered_aligned, truth),
                ssim(rendered_aligned, truth),
            ]
        )
    means = torch.tensor(rows, dtype=torch.float64).mean(0).tolist()
    return EvalMetrics(
        views=len(truths), psnr=means[0], ssim=means[1], psnr_aligned=means[2], ssim_aligned=means[3]
    )


def align_camera(scene: SceneModel, truth: Tensor, view: Views) -> Views:
    """The camera [1] moved by turns and ways until the scene shows the truth [3, H, W] best."""
    size = (truth.shape[1], truth.shape[2])
    depth = max(float(view.viewmats[0, :3, 3].norm()), 1.0)
    scale = pixel_scale(view.Ks[0], size, depth=depth)[:6].to(truth.device)
    twist = torch.zeros(6, device=truth.device, requires_grad=True)
    optimizer = torch.optim.Adam([twist], lr=LEARNING_RATE_PX)
    with torch.enable_grad():
        for step in range(STEPS):
            optimizer.param_groups[0]["lr"] = LEARNING_RATE_PX * 0.1 ** (step / STEPS)
            views_moved = Views(viewmats=se3_exp(twist * scale) @ view.viewmats, Ks=view.Ks)
            loss = (sqrt_encode(scene(views_moved, size)[0]) - sqrt_encode(truth)).abs().mean()
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
    return Views(viewmats=(se3_exp(twist.detach() * scale) @ view.viewmats), Ks=view.Ks)
