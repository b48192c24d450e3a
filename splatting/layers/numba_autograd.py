"""`exposure.expose_layer` by compiled kernels: an autograd function for float32 on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from freezeframe.data.kernels.numba_jit import with_kernel_lock

from . import numba_exposure as kernels
from .exposure import Mesh
from .numba_intrinsics import CHANNELS

F = np.float32
BLOCKS = 8  # blocks of instants whose gradients by the texture are summed in order


def expose(texture: Tensor, mesh: Mesh, size: tuple[int, int]) -> Tensor:
    """See `exposure.expose_layer`."""
    exposures: Tensor = _Expose.apply(texture, mesh.position, mesh.nodes, mesh.half, size)  # type: ignore[no-untyped-call]
    return exposures


class _Expose(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917  # torch passes tensors by position
        ctx: Any, texture: Tensor, position: Tensor, nodes: Tensor, half: tuple[float, float],
        size: tuple[int, int],
    ) -> Tensor:  # fmt: skip
        mesh = kernels.Mesh(
            _array(position.flatten(0, 1)), _array(nodes.flatten(0, 1)), np.array(half, F), position.shape[1]
        )
        texels = _array(texture.permute(1, 2, 0))
        out = np.zeros((len(position), *size, CHANNELS), F)
        with_kernel_lock(kernels.expose)(texels, mesh, out)
        ctx.saved = texels, mesh, position.shape, nodes.shape
        return torch.from_numpy(out).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        texels, mesh, position_shape, nodes_shape = ctx.saved
        gradients = kernels.Gradients(
            np.zeros((min(BLOCKS, len(mesh.position)), *texels.shape), F),
            np.zeros_like(mesh.position),
            np.zeros_like(mesh.nodes),
        )
        by_exposures = _array(upstream[0].permute(0, 2, 3, 1))
        with_kernel_lock(kernels.expose_gradients)(texels, mesh, by_exposures, gradients)
        return (
            torch.from_numpy(gradients.texture.sum(0)).permute(2, 0, 1),
            torch.from_numpy(gradients.position).view(position_shape),
            torch.from_numpy(gradients.nodes).view(nodes_shape),
            None,
            None,
        )


def _array(tensor: Tensor) -> Any:
    return np.ascontiguousarray(tensor.detach().numpy(), F)
