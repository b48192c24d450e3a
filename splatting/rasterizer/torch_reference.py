"""Gaussian splatting in plain torch: every pixel against every Gaussian. Slow, clear, of any dtype.

What `compiled` computes is checked against this. Symbols as in gsplat 1.5.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .projected import FAINT, OPAQUE, SOLID, Lens, Screen, covariances

BESIDE = 0.15  # of the frame: how far outside a Gaussian may lie before its perspective is held


def project(  # noqa: PLR0913, PLR0917  # the call's own order
    means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, viewmats: Tensor, ks: Tensor, lens: Lens
) -> Screen:
    """Where Gaussians lie on each screen, by a perspective that is linear around each mean (Zwicker 2001)."""
    cov = covariances(quats, scales)
    seen = [_onto(means, cov, opacities, view, k, lens) for view, k in zip(viewmats, ks, strict=True)]
    middle, conics, strengths, depths, radii = (torch.stack(part) for part in zip(*seen, strict=True))
    return Screen(means=middle, conics=conics, opacities=strengths, depths=depths, radii=radii)


def composite(screen: Screen, colours: Tensor, backgrounds: Tensor, lens: Lens) -> tuple[Tensor, Tensor]:
    """Nearest over farther: pictures [C, K, H, W] and alphas [C, H, W].

    Args:
        screen: The Gaussians.
        colours: [C, N, K].
        backgrounds: [C, K].
        lens: Size of the pictures.
    """
    drawn = [_over(screen, c, colours[c], lens.size) for c in range(len(colours))]
    alphas = torch.stack([alpha for _, alpha in drawn])
    behind = (1 - alphas)[:, None] * backgrounds[:, :, None, None]
    return torch.stack([picture for picture, _ in drawn]) + behind, alphas


def _onto(  # noqa: PLR0913, PLR0917
    means: Tensor, cov: Tensor, opacities: Tensor, view: Tensor, k: Tensor, lens: Lens
) -> tuple[Tensor, ...]:
    width, height = lens.size
    x, y, z = (means @ view[:3, :3].T + view[:3, 3]).unbind(-1)
    beside_x, beside_y = BESIDE * width / k[0, 0], BESIDE * height / k[1, 1]
    held_x = (x / z).clamp(-(k[0, 2] / k[0, 0] + beside_x), (width - k[0, 2]) / k[0, 0] + beside_x)
    held_y = (y / z).clamp(-(k[1, 2] / k[1, 1] + beside_y), (height - k[1, 2]) / k[1, 1] + beside_y)
    zero = torch.zeros_like(z)
    jacobian = torch.stack(
        [k[0, 0] / z, zero, -k[0, 0] * held_x / z, zero, k[1, 1] / z, -k[1, 1] * held_y / z], dim=-1
    ).reshape(-1, 2, 3)
    flat = jacobian @ view[:3, :3]
    sharp = flat @ cov @ flat.mT
    wide = sharp + lens.blur * torch.eye(2).to(sharp)
    det = _det(wide).clamp_min(1e-10)
    strength = opacities
    if lens.antialiased:
        strength = opacities * (_det(sharp) / det).clamp_min(1e-20).sqrt()
    conic = torch.stack([wide[:, 1, 1], -wide[:, 0, 1], wide[:, 0, 0]], dim=-1) / det[:, None]
    middle = torch.stack([k[0, 0] * x / z + k[0, 2], k[1, 1] * y / z + k[1, 2]], dim=-1)
    return middle, conic, strength, z, _radii(middle, wide, strength, z, lens)


def _det(matrix: Tensor) -> Tensor:
    return matrix[:, 0, 0] * matrix[:, 1, 1] - matrix[:, 0, 1] * matrix[:, 1, 0]


@torch.no_grad()
def _radii(middle: Tensor, cov: Tensor, opacity: Tensor, depth: Tensor, lens: Lens) -> Tensor:
    """Reach in pixels of what a camera sees; 0 behind it, beside the frame and for the faint."""
    reach = (2 * torch.log(opacity.clamp_min(FAINT) / FAINT)).clamp_min(0)
    extent = (reach[:, None] * torch.stack([cov[:, 0, 0], cov[:, 1, 1]], dim=-1)).sqrt()
    size = torch.tensor(lens.size).to(middle)
    inside = ((middle + extent > 0) & (middle - extent < size)).all(-1)
    shown = inside & (depth > lens.near) & (depth < lens.far) & (opacity >= FAINT)
    return torch.where(shown, extent.amax(-1).ceil(), 0).int()


def _over(screen: Screen, c: int, colour: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    seen = screen.radii[c] > 0
    # By the precision that the kernels sort with.
    order = seen.nonzero()[:, 0][torch.argsort(screen.depths[c][seen].float(), stable=True)]
    width, height = size
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([columns, rows], dim=-1).reshape(-1, 1, 2).to(colour)
    dx, dy = (screen.means[c][order] - pixels).unbind(-1)
    a, b, half = screen.conics[c][order].unbind(-1)
    alpha = screen.opacities[c][order] * torch.exp(-0.5 * (a * dx * dx + half * dy * dy) - b * dx * dy)
    alpha = alpha.clamp(max=SOLID)
    alpha = torch.where(alpha >= FAINT, alpha, torch.zeros_like(alpha))
    with torch.no_grad():
        alive = (torch.cumprod(1 - alpha, 1) <= OPAQUE).cumsum(1) == 0
    alpha = alpha * alive
    clear = torch.cumprod(1 - alpha, 1)
    weight = alpha * torch.cat([torch.ones_like(clear[:, :1]), clear[:, :-1]], dim=1)
    picture = (weight @ colour[order]).T.reshape(-1, height, width)
    return picture, weight.sum(1).reshape(height, width)
