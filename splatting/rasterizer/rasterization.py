"""Gaussian splatting behind one call, gsplat's: its CUDA kernels on GPUs, our compiled ones on the CPU.

All sub-frames of an exposure are cameras of one call; their mean is the exposure.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor

from . import spherical_harmonics as harmonics
from . import torch_reference as reference
from .projected import RasterSettings

RenderMode = Literal["RGB", "D", "ED", "RGB+D", "RGB+ED"]
RasterizeMode = Literal["classic", "antialiased"]

Rendering = tuple[Tensor, Tensor, dict[str, Any]]

COMPILED = find_spec("numba") is not None


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
    """Draw 3D Gaussians as C cameras see them (Kerbl et al. 2023), differentiably.

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
        near_plane: Nothing nearer is drawn.
        far_plane: Nothing farther is drawn.
        eps2d: Added to the covariance on the screen, pixels^2.
        sh_degree: Harmonics up to this one are used.
        backgrounds: [C, K].
        render_mode: Colours, accumulated depth (D) or expected depth (ED), or both.
        rasterize_mode: `antialiased` dims small Gaussians by what `eps2d` spreads them.

    Returns:
        Pictures [C, H, W, X], alphas [C, H, W, 1], and what is known of the Gaussians on the screens: `radii`
        [C, N] pixels (0: not seen), `means2d` [C, N, 2], whose gradient densification reads.
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
    pictures, alphas = kernels.composite(projected, features, _backgrounds(backgrounds, features), settings)
    if render_mode.endswith("ED"):
        pictures = torch.cat([pictures[:, :-1], pictures[:, -1:] / alphas[:, None].clamp_min(1e-10)], dim=1)
    info = {
        "means2d": projected.means,
        "radii": projected.radii[..., None].expand(-1, -1, 2),
        "depths": projected.depths,
        "width": width,
        "height": height,
        "n_cameras": len(viewmats),
    }
    return pictures.permute(0, 2, 3, 1), alphas[..., None], info


def kernels_for(means: Tensor) -> Any:
    """The compiled kernels where they can do the work (float32, numba there), else plain torch."""
    if means.dtype == torch.float32 and COMPILED:
        from . import numba_autograd as compiled

        return compiled
    return reference


def _features(colours: Tensor, depths: Tensor, *, mode: RenderMode) -> Tensor:
    """[C, N, K] what each Gaussian shows to each camera."""
    parts = []
    if mode.startswith("RGB"):
        parts.append(colours.expand(len(depths), *colours.shape[-2:]))
    if mode != "RGB":
        parts.append(depths[..., None])
    return torch.cat(parts, dim=-1)


def _backgrounds(backgrounds: Tensor | None, features: Tensor) -> Tensor:
    """[C, K] light behind everything; depth has none."""
    behind = features.new_zeros(len(features), features.shape[-1])
    if backgrounds is not None:
        behind[:, : backgrounds.shape[-1]] = backgrounds
    return behind
