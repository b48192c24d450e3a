"""gsplat's `rasterization` on every device: its CUDA kernels on GPUs, compiled kernels or torch on the CPU.

All sub-frames of an exposure are cameras of one call; their mean is the exposure.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from freezeframe.data.blur.operator import has_numba

from . import spherical_harmonics as harmonics
from . import torch_reference as reference
from .projected import RasterSettings

RenderMode = Literal["RGB", "D", "ED", "RGB+D", "RGB+ED"]
RasterizeMode = Literal["classic", "antialiased"]

Rendering = tuple[Tensor, Tensor, dict[str, Any]]


def rasterization(  # noqa: PLR0913, PLR0917  # gsplat's call
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    *,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    eps2d: float = 0.3,
    sh_degree: int | None = None,
    backgrounds: Tensor | None = None,
    render_mode: RenderMode = "RGB",
    rasterize_mode: RasterizeMode = "classic",
) -> Rendering:
    """Render 3D Gaussians from C cameras (Kerbl et al. 2023), differentiably.

    Args:
        means: [N, 3].
        quats: Rotations (w, x, y, z) of any length. [N, 4].
        scales: Standard deviations along their axes. [N, 3].
        opacities: [N] in [0, 1].
        colors: [N, K] or [C, N, K]; with `sh_degree` spherical harmonics, [N, M, 3].
        viewmats: World to camera, OpenCV axes. [C, 4, 4]; gradients flow to them.
        Ks: Pinhole intrinsics in pixels, pixel centres at +0.5. [C, 3, 3]; no gradients.
        width: Pixels.
        height: Pixels.
        near_plane: Nearer Gaussians are not rendered.
        far_plane: Farther Gaussians are not rendered.
        eps2d: Added to the 2D covariance, pixels^2.
        sh_degree: Highest degree of the harmonics used.
        backgrounds: [C, K].
        render_mode: Colours, accumulated depth (D) or expected depth (ED), or both.
        rasterize_mode: `antialiased` reduces the opacity of small Gaussians by as much as `eps2d` widens
            them.

    Returns:
        Images [C, H, W, X], alphas [C, H, W, 1], and a dict with `radii` [C, N, 2] pixels (0: invisible),
        `means2d` [C, N, 2], whose gradient densification reads, `depths` [C, N], `width`, `height` and
        `n_cameras`.
    """
    if means.is_cuda:
        from gsplat import rasterization as on_cuda

        rendering: Rendering = on_cuda(
            means, quats, scales, opacities, colors, viewmats, Ks, width, height, near_plane=near_plane,
            far_plane=far_plane, eps2d=eps2d, sh_degree=sh_degree, backgrounds=backgrounds,
            render_mode=render_mode, rasterize_mode=rasterize_mode, packed=False,
        )  # fmt: skip
        return rendering
    settings = RasterSettings(
        size=(width, height),
        near=near_plane,
        far=far_plane,
        blur=eps2d,
        antialiased=rasterize_mode == "antialiased",
    )
    if sh_degree is not None:
        colors = harmonics.colours(colors, means, viewmats, degree=sh_degree)
    kernels = kernels_for(means)
    projected = kernels.project(means, quats, scales, opacities, viewmats, Ks, settings)
    features = _features(colors, projected.depths, mode=render_mode)
    images, alphas = kernels.composite(projected, features, _backgrounds(backgrounds, features), settings)
    if render_mode.endswith("ED"):
        images = torch.cat([images[:, :-1], images[:, -1:] / alphas[:, None].clamp_min(1e-10)], dim=1)
    info = {
        "means2d": projected.means,
        "radii": projected.radii[..., None].expand(-1, -1, 2),
        "depths": projected.depths,
        "width": width,
        "height": height,
        "n_cameras": len(viewmats),
    }
    return images.permute(0, 2, 3, 1), alphas[..., None], info


def kernels_for(means: Tensor) -> Any:
    """Module of `project` and `composite`: compiled for float32 where numba is installed, else torch."""
    if means.dtype == torch.float32 and has_numba():
        from . import numba_autograd as compiled

        return compiled
    return reference


def _features(colours: Tensor, depths: Tensor, *, mode: RenderMode) -> Tensor:
    """[C, N, K] colour, depth or both of each Gaussian for each camera."""
    parts = []
    if mode.startswith("RGB"):
        parts.append(colours.expand(len(depths), *colours.shape[-2:]))
    if mode != "RGB":
        parts.append(depths[..., None])
    return torch.cat(parts, dim=-1)


def _backgrounds(backgrounds: Tensor | None, features: Tensor) -> Tensor:
    """[C, K] background of every channel; 0 for depth."""
    per_channel = features.new_zeros(len(features), features.shape[-1])
    if backgrounds is not None:
        per_channel[:, : backgrounds.shape[-1]] = backgrounds
    return per_channel
