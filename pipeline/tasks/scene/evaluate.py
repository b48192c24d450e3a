"""Evaluation on held-out views, with and without test-time pose optimisation (DeblurGS; Lee et al. 2024).

The poses of held-out views are estimated from blurred frames. Optimising them on the frozen scene separates
errors of the scene from errors of the poses.

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


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignmentConfig:
    """Optimiser of the camera poses."""

    steps: int = 200
    lr_px: float = 0.2  # pixels of image motion
    final_lr_ratio: float = 0.1


PROTOCOL = (
    "PSNR and SSIM of 8-bit sRGB over whole held-out views, mean over views; aligned: after optimising each"
    f" camera pose on the frozen scene ({AlignmentConfig().steps} steps of Adam, L1 of square roots of linear"
    " RGB)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalMetrics:
    """Means over the held-out views."""

    views: int
    psnr: float  # dB
    ssim: float
    psnr_aligned: float  # dB, after pose optimisation
    ssim_aligned: float
    protocol: str = PROTOCOL


def evaluate(scene: SceneModel, truths: Tensor, views: Views) -> EvalMetrics:
    """Compute the metrics of a scene.

    Args:
        scene: Fitted without these views.
        truths: Sharp images. [N, 3, H, W] linear RGB.
        views: Their N cameras.
    """
    size = (truths.shape[2], truths.shape[3])
    rows = []
    for k, truth in enumerate(truths):
        view = views[k : k + 1]
        with torch.no_grad():
            rendered = scene(view, size)[0]
            aligned = scene(align_camera(scene, truth, view), size)[0]
        rows.append([metric(image, truth) for image in (rendered, aligned) for metric in (psnr, ssim)])
    means = torch.tensor(rows, dtype=torch.float64).mean(0).tolist()
    return EvalMetrics(
        views=len(truths), psnr=means[0], ssim=means[1], psnr_aligned=means[2], ssim_aligned=means[3]
    )


def align_camera(
    scene: SceneModel, truth: Tensor, view: Views, *, config: AlignmentConfig = AlignmentConfig()
) -> Views:
    """The camera [1] after optimising its pose on the frozen scene against an image [3, H, W]."""
    size = (truth.shape[1], truth.shape[2])
    depth = max(float(view.viewmats[0, :3, 3].norm()), 1.0)
    scale = pixel_scale(view.Ks[0], size, depth=depth)[:6].to(truth.device)
    twist = torch.zeros(6, device=truth.device, requires_grad=True)
    optimizer = torch.optim.Adam([twist], lr=config.lr_px)
    with torch.enable_grad():
        for step in range(config.steps):
            decay = config.final_lr_ratio ** (step / config.steps)
            optimizer.param_groups[0]["lr"] = config.lr_px * decay
            moved = Views(viewmats=se3_exp(twist * scale) @ view.viewmats, Ks=view.Ks)
            loss = (sqrt_encode(scene(moved, size)[0]) - sqrt_encode(truth)).abs().mean()
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
    return Views(viewmats=(se3_exp(twist.detach() * scale) @ view.viewmats), Ks=view.Ks)
