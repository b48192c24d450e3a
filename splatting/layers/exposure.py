"""Exposures of a moving layer as a differentiable function: compiled kernels, and their reference in torch.

A mesh warps the texture of the layer. A pixel at distance d from the centre of the mesh reads the texture at
the bilinear interpolation, at d, of the texture coordinates at the nodes: every affine motion is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from freezeframe.data.blur.operator import has_numba, integrate


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """Motion of a layer at K instants of each of M exposures."""

    position: Tensor  # [M, K, 2] centre (x, y), pixels of the exposure
    nodes: Tensor  # [M, K, gh, gw, 2] texture coordinates (x, y) of the nodes
    half: tuple[float, float]  # half the width and half the height, pixels


def expose_layer(texture: Tensor, mesh: Mesh, size: tuple[int, int]) -> Tensor:
    """Mean light and coverage of a layer over M exposures. Differentiable by texture, position and nodes.

    Compiled where no gradient is asked for.

    Args:
        texture: [4, h, w] premultiplied linear RGB, and alpha; the outermost texels are transparent.
        mesh: Motion.
        size: Height and width of an exposure.

    Returns:
        [M, 4, H, W] premultiplied linear RGB, and alpha.
    """
    differentiable = torch.is_grad_enabled() and any(
        each.requires_grad for each in (texture, mesh.position, mesh.nodes)
    )
    if has_numba() and texture.is_cpu and texture.dtype == torch.float32 and not differentiable:
        return _expose_compiled(texture, mesh, size)
    return expose_reference(texture, mesh, size)


def _expose_compiled(texture: Tensor, mesh: Mesh, size: tuple[int, int]) -> Tensor:
    from .numba_exposure import expose

    exposures = expose(
        texture.permute(1, 2, 0).numpy(), mesh.position.numpy(), mesh.nodes.numpy(), mesh.half, size
    )
    return torch.from_numpy(exposures).permute(0, 3, 1, 2)


def expose_reference(texture: Tensor, mesh: Mesh, size: tuple[int, int]) -> Tensor:
    """`expose_layer` by torch, for every device and precision."""
    return torch.stack(
        [
            integrate(
                torch.stack(
                    [
                        _warp(texture, position, nodes, mesh.half, size)
                        for position, nodes in zip(positions, meshes, strict=True)
                    ]
                )
            )
            for positions, meshes in zip(mesh.position, mesh.nodes, strict=True)
        ]
    )


def _warp(
    texture: Tensor, position: Tensor, nodes: Tensor, half: tuple[float, float], size: tuple[int, int]
) -> Tensor:
    """[4, H, W] texture at one instant."""
    extent = texture.new_tensor(half)
    x = torch.arange(size[1]).to(texture) - position[0]
    y = torch.arange(size[0]).to(texture) - position[1]
    distance = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)
    inside = (distance.abs() < extent).all(-1)
    coordinates = _sample(nodes.movedim(-1, 0), distance / extent)
    last = coordinates.new_tensor([texture.shape[2] - 1, texture.shape[1] - 1])[:, None, None]
    inside = inside & (coordinates > 0).all(0) & (coordinates < last).all(0)
    return _sample(texture, (2 * coordinates / last - 1).movedim(0, -1)) * inside


def _sample(image: Tensor, grid: Tensor) -> Tensor:
    """Bilinear samples of [C, h, w] at [H, W, 2] coordinates in [-1, 1]: [C, H, W]."""
    sampled: Any = grid_sample(image[None], grid[None], align_corners=True, padding_mode="border")
    samples: Tensor = sampled[0]
    return samples
