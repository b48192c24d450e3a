"""Gradients of `loss.layer_loss` by all parameters of a layer, by compiled kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from torch import Tensor

from freezeframe.data.kernels.numba_jit import cached_jit, with_kernel_lock
from freezeframe.splatting.camera.curves import spline_slopes
from freezeframe.splatting.optim.losses import SQRT_OFFSET, sqrt_encode

from .layer import Crops, Layer
from .loss import LossConfig
from .numba_exposure import F, Gradients, Mesh, expose_row, row_gradients
from .numba_intrinsics import CHANNELS
from .numba_parameters import (
    POSE,
    Placement,
    Priors,
    draw_texture,
    mesh_gradients,
    place_mesh,
    spline_basis,
    texture_gradients,
)

jit: Any = cached_jit(fastmath=True)
jit_parallel: Any = cached_jit(fastmath=True, parallel=True)


class Recorded(NamedTuple):
    """Crops of all frames."""

    background: Any  # [T, H, W, 3] linear RGB
    target: Any  # [T, H, W, 3] square roots of light
    weight: Any  # [T, H, W]


@dataclass(frozen=True, slots=True)
class CompiledLoss:
    """The loss of layers on the same crops."""

    recorded: Recorded
    times: Any  # [T]
    origin: Any  # [T, 2]
    slopes: Any  # [T, T]
    config: LossConfig

    @classmethod
    def of(cls, crops: Crops, config: LossConfig) -> CompiledLoss:
        """The loss on `crops`."""
        recorded = Recorded(
            _array(crops.background.permute(0, 2, 3, 1)),
            _array(sqrt_encode(crops.images).permute(0, 2, 3, 1)),
            _array(crops.weight),
        )
        slopes = _array(spline_slopes(crops.times.double()))
        return cls(recorded, _array(crops.times), _array(crops.origin), slopes, config)

    def set_gradients(self, layer: Layer, frames: Sequence[int], time_offsets: Tensor) -> None:
        """Set the gradients of all parameters of `layer`; arguments as in `layer_loss`."""
        which, offsets, shutter = np.array(frames), _array(time_offsets), F(layer.shutter.detach())
        basis, rates = (np.empty((len(which) * len(offsets), len(self.times)), F) for _ in range(2))
        times = (self.times[which, None] + shutter * offsets).ravel()
        spline_basis(times, self.times, self.slopes, basis, rates)
        motion = _array(layer.motion())
        states = basis @ motion
        half = np.array(layer.half_extent(), F)
        _, height, width = layer.texture_logits.shape
        placement = Placement(
            half,
            np.array([(width - 1) / 2, (height - 1) / 2], F),
            np.repeat(self.origin[which], len(offsets), axis=0),
            F(layer.downscale),
        )
        position = np.empty((len(states), 2), F)
        nodes = np.empty((len(states), *layer.mesh_size, 2), F)
        place_mesh(states, placement, position, nodes)
        mesh = Mesh(position, nodes, half, len(offsets))
        roots, texture = np.empty((4, height, width), F), np.empty((height, width, CHANNELS), F)
        draw_texture(_array(layer.texture_logits), roots, texture)
        gradients = Gradients(
            np.zeros((len(which), *texture.shape), F), np.zeros_like(position), np.zeros_like(nodes)
        )
        scale = F(1 / (3 * len(which) * height * width))
        _reblur_gradients(texture, mesh, self.recorded, which, scale, F(self.config.eps), gradients)
        by_states = np.empty_like(states)
        mesh_gradients(states, placement, gradients.position, gradients.nodes, by_states)
        by_motion = basis.T @ by_states
        self._add_deformation_prior(motion, by_motion)
        layer.set_motion_gradients(torch.from_numpy(by_motion))
        by_time = (by_states * (rates @ motion)).sum(1).reshape(len(which), -1)
        layer.shutter_logit.grad = torch.tensor(float((by_time @ offsets).sum() * shutter * (1 - shutter)))
        by_logits = np.empty_like(roots)
        texture_gradients(roots, gradients.texture, self._priors(height, width), by_logits)
        layer.texture_logits.grad = torch.from_numpy(by_logits)

    def _add_deformation_prior(self, motion: Any, by_motion: Any) -> None:
        deformation, gradient = motion[:, POSE:], by_motion[:, POSE:]
        gradient += F(2 * self.config.deformation / (4**2 * deformation.size)) * deformation
        if len(motion) > 1:
            change = np.diff(deformation, axis=0)
            change *= F(2 * self.config.deformation_change / (2**2 * change.size))
            gradient[1:] += change
            gradient[:-1] -= change

    def _priors(self, height: int, width: int) -> Priors:
        across, down, config = height * (width - 1), (height - 1) * width, self.config
        return Priors(
            F(config.colour_tv / (3 * across)),
            F(config.colour_tv / (3 * down)),
            F(config.chroma_tv / (2 * across)),
            F(config.chroma_tv / (2 * down)),
            F(config.alpha_tv / across),
            F(config.alpha_tv / down),
            F(config.binary / (height * width)),
        )


@with_kernel_lock
def _reblur_gradients(*args: Any) -> None:
    reblur_gradients(*args)


@jit_parallel
def reblur_gradients(  # noqa: PLR0913, PLR0917  # numba takes no keywords
    texture: Any, mesh: Any, recorded: Any, which: Any, scale: Any, eps: Any, gradients: Any
) -> None:
    """Gradients of the Charbonnier loss of the re-blurred frames `which`, times `scale`; zero before."""
    for m in numba.prange(len(which)):
        row = np.empty((recorded.weight.shape[2], CHANNELS), F)
        for y in range(recorded.weight.shape[1]):
            if _is_covered(mesh, m, y):
                row[:] = F(0)
                for n in range(m * mesh.instants, (m + 1) * mesh.instants):
                    expose_row(texture, mesh, (n, y), row)
                _loss_row(recorded, (which[m], y), (F(1) / F(mesh.instants), scale, eps), row)
                for n in range(m * mesh.instants, (m + 1) * mesh.instants):
                    row_gradients(texture, mesh, (n, y, np.intp(m)), row, gradients)


@jit
def _is_covered(mesh: Any, exposure: Any, y: Any) -> bool:
    """Whether the mesh passes row y while the shutter is open."""
    for n in range(exposure * mesh.instants, (exposure + 1) * mesh.instants):
        if abs(F(y) - mesh.position[n, 1]) < mesh.half[1]:
            return True
    return False


@jit
def _loss_row(recorded: Any, number: Any, factors: Any, row: Any) -> None:
    """Replace the sums of instants in a row by the gradient by their mean; `number` is (frame, y)."""
    frame, y = number
    share, scale, eps = factors
    for x in range(len(row)):
        weight = scale * recorded.weight[frame, y, x]
        clear = F(1) - share * row[x, 3]
        by_alpha = F(0)
        for c in range(3):
            background = recorded.background[frame, y, x, c]
            light = share * row[x, c] + clear * background
            root = math.sqrt(max(light, F(0)) + F(SQRT_OFFSET))
            error = root - recorded.target[frame, y, x, c]
            gradient = F(0.5) * weight * error / (root * math.sqrt(error * error + eps * eps))
            row[x, c] = gradient
            by_alpha -= gradient * background
        row[x, 3] = by_alpha


def _array(tensor: Tensor) -> Any:
    return np.ascontiguousarray(tensor.detach().numpy(), F)
