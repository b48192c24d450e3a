"""Gaussian splatting in plain torch: every pixel against every Gaussian, in any dtype.

The reference for the compiled kernels, and the implementation where they do not apply. Symbols as in gsplat
1.5.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .projected import (
    ALPHA_MAX,
    ALPHA_MIN,
    FRUSTUM_MARGIN,
    TRANSMITTANCE_MIN,
    ProjectedGaussians,
    RasterSettings,
    covariances,
)


def project(  # noqa: PLR0913, PLR0917  # the call's own order
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    settings: RasterSettings,
) -> ProjectedGaussians:
    """Project Gaussians by a perspective linearised at each mean (EWA splatting, Zwicker et al. 2001)."""
    gaussians = means, covariances(quats, scales), opacities
    projections = [_project_one(gaussians, view, k, settings) for view, k in zip(viewmats, Ks, strict=True)]
    mean2d, conics, compensated_opacities, depths, radii = (
        torch.stack(part) for part in zip(*projections, strict=True)
    )
    return ProjectedGaussians(
        means=mean2d, conics=conics, opacities=compensated_opacities, depths=depths, radii=radii
    )


def composite(
    projected: ProjectedGaussians, colours: Tensor, backgrounds: Tensor, settings: RasterSettings
) -> tuple[Tensor, Tensor]:
    """Alpha compositing, near over far: images [C, K, H, W] and alphas [C, H, W].

    Args:
        projected: The Gaussians.
        colours: [C, N, K].
        backgrounds: [C, K].
        settings: Size of the images.
    """
    images = [_composite_one(projected, c, colours[c], settings.size) for c in range(len(colours))]
    alphas = torch.stack([alpha for _, alpha in images])
    behind = (1 - alphas)[:, None] * backgrounds[:, :, None, None]
    return torch.stack([image for image, _ in images]) + behind, alphas


def _project_one(
    gaussians: tuple[Tensor, Tensor, Tensor], view: Tensor, k: Tensor, settings: RasterSettings
) -> tuple[Tensor, ...]:
    means, cov, opacities = gaussians
    width, height = settings.size
    x, y, z = (means @ view[:3, :3].T + view[:3, 3]).unbind(-1)
    margin_x, margin_y = FRUSTUM_MARGIN * width / k[0, 0], FRUSTUM_MARGIN * height / k[1, 1]
    clamped_x = (x / z).clamp(-(k[0, 2] / k[0, 0] + margin_x), (width - k[0, 2]) / k[0, 0] + margin_x)
    clamped_y = (y / z).clamp(-(k[1, 2] / k[1, 1] + margin_y), (height - k[1, 2]) / k[1, 1] + margin_y)
    zero = torch.zeros_like(z)
    jacobian = torch.stack(
        [k[0, 0] / z, zero, -k[0, 0] * clamped_x / z, zero, k[1, 1] / z, -k[1, 1] * clamped_y / z], dim=-1
    ).reshape(-1, 2, 3)
    flat = jacobian @ view[:3, :3]
    sharp = flat @ cov @ flat.mT
    cov2d = sharp + settings.blur * torch.eye(2).to(sharp)
    det = _det(cov2d).clamp_min(1e-10)
    compensated_opacity = opacities
    if settings.antialiased:
        compensated_opacity = opacities * (_det(sharp) / det).clamp_min(1e-20).sqrt()
    conic = torch.stack([cov2d[:, 1, 1], -cov2d[:, 0, 1], cov2d[:, 0, 0]], dim=-1) / det[:, None]
    mean2d = torch.stack([k[0, 0] * x / z + k[0, 2], k[1, 1] * y / z + k[1, 2]], dim=-1)
    return mean2d, conic, compensated_opacity, z, _radii(mean2d, cov2d, compensated_opacity, z, settings)


def _det(matrix: Tensor) -> Tensor:
    return matrix[:, 0, 0] * matrix[:, 1, 1] - matrix[:, 0, 1] * matrix[:, 1, 0]


@torch.no_grad()
def _radii(mean2d: Tensor, cov: Tensor, opacity: Tensor, depth: Tensor, settings: RasterSettings) -> Tensor:
    """Pixels to where alpha is 1/255; 0 behind the camera, outside the frame and below ALPHA_MIN."""
    power = (2 * torch.log(opacity.clamp_min(ALPHA_MIN) / ALPHA_MIN)).clamp_min(0)
    extent = (power[:, None] * torch.stack([cov[:, 0, 0], cov[:, 1, 1]], dim=-1)).sqrt()
    size = torch.tensor(settings.size).to(mean2d)
    inside = ((mean2d + extent > 0) & (mean2d - extent < size)).all(-1)
    visible = inside & (depth > settings.near) & (depth < settings.far) & (opacity >= ALPHA_MIN)
    return torch.where(visible, extent.amax(-1).ceil(), 0).int()


def _composite_one(
    projected: ProjectedGaussians, c: int, colour: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    visible = projected.radii[c] > 0
    # In the precision in which the kernels sort.
    order = visible.nonzero()[:, 0][torch.argsort(projected.depths[c][visible].float(), stable=True)]
    width, height = size
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([columns, rows], dim=-1).reshape(-1, 1, 2).to(colour)
    dx, dy = (projected.means[c][order] - pixels).unbind(-1)
    a, b, half = projected.conics[c][order].unbind(-1)
    alpha = projected.opacities[c][order] * torch.exp(-0.5 * (a * dx * dx + half * dy * dy) - b * dx * dy)
    alpha = alpha.clamp(max=ALPHA_MAX)
    alpha = torch.where(alpha >= ALPHA_MIN, alpha, torch.zeros_like(alpha))
    with torch.no_grad():
        before_cutoff = (torch.cumprod(1 - alpha, 1) <= TRANSMITTANCE_MIN).cumsum(1) == 0
    alpha = alpha * before_cutoff
    transmittance = torch.cumprod(1 - alpha, 1)
    weight = alpha * torch.cat([torch.ones_like(transmittance[:, :1]), transmittance[:, :-1]], dim=1)
    image = (weight @ colour[order]).T.reshape(-1, height, width)
    return image, weight.sum(1).reshape(height, width)
