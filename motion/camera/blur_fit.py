"""The blur field of a turning camera, fitted to the local blur of one photograph.

A camera that turns by a small angle while the shutter is open moves every point by a field of six
parameters: pan in x and y, roll, zoom, and the two that a pan adds towards the corners (Longuet-Higgins and
Prazdny 1980). Local blur vectors have no sign, and those of flat windows are noise; so the parameters are
those of the highest probability under all windows, found by samples of two windows each (Fischler and Bolles
1981) and ascent from the best of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from freezeframe.models.deblur.local_psf import LocalPsfs, log_probability

NUM_PARAMETERS = 6
_SAMPLED = 4  # parameters that two windows determine: pan, roll and zoom


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraBlurParams:
    """Tunables of the fit."""

    samples: int = 300  # of two windows
    ascents: int = 8  # from the best samples
    ascent_steps: int = 60
    ascent_rate: float = 0.15  # pixels per step, of each parameter
    floor: float = 1e-3  # probability of a window whose blur is not the camera's
    bend_weight: float = 0.02  # nats per pixel of roll and zoom, at half the longer side
    perspective_weight: float = 0.05  # likewise of the other two
    seed: int = 0


DEFAULT_PARAMS = CameraBlurParams()


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraBlur:
    """A blur field of a camera, and how well it explains the windows. Takes no gradient."""

    parameters: Tensor  # [6] pixels, at half the longer side of the picture
    score: float  # mean log-probability of a window
    still_score: float  # likewise without any blur

    @property
    def gain(self) -> float:
        """By how much better it explains a window than a still camera does, in nats."""
        return self.score - self.still_score

    def vectors(self, size: Sequence[int], *, step: int = 1) -> Tensor:
        """[2, H / step, W / step] blur vectors (x, y) in pixels of blocks of a picture of `size` (H, W)."""
        y, x = (torch.arange(0, length, step) + (step - 1) / 2 for length in size)
        return self.at(torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))]), size)

    def at(self, position: Tensor, size: Sequence[int]) -> Tensor:
        """[2, ...] blur vectors (x, y) in pixels at positions [2, ...] (x, y) of a picture of `size`."""
        return torch.einsum("p,p...->...", self.parameters, camera_basis(position, size))


def camera_basis(position: Tensor, size: Sequence[int]) -> Tensor:
    """[6, 2, ...] blur vectors (x, y) at positions [2, ...] of a unit of each parameter. Takes no gradient.

    In the order pan in x and in y, roll, zoom, and the perspective of a pan in x and in y.
    """
    half = max(size) / 2
    x, y = (position[0] - (size[1] - 1) / 2) / half, (position[1] - (size[0] - 1) / 2) / half
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    fields = ((one, zero), (zero, one), (-y, x), (x, y), (x * x, x * y), (x * y, y * y))
    return torch.stack([torch.stack(field) for field in fields])


def fit_camera_blur(
    psfs: Sequence[LocalPsfs], size: Sequence[int], *, params: CameraBlurParams = DEFAULT_PARAMS
) -> CameraBlur:
    """The camera's blur that makes the local blur most probable. Takes no gradient.

    Args:
        psfs: Local blur in windows of one or more sizes.
        size: (H, W) of the picture.
        params: Tunables.
    """
    bases = [camera_basis(each.position, size) for each in psfs]
    vectors = torch.cat([each.likeliest() for each in psfs], 1)
    samples = _sampled_parameters(torch.cat(bases, 2), vectors, params)
    scores = _scores(samples, psfs, bases, params)
    best = samples[scores.topk(min(params.ascents, len(samples))).indices]
    best = _ascend(best, psfs, bases, params)
    scores = _scores(best, psfs, bases, params)
    still = _scores(torch.zeros(1, NUM_PARAMETERS), psfs, bases, params)
    return CameraBlur(parameters=best[scores.argmax()], score=float(scores.max()), still_score=float(still))


def _sampled_parameters(basis: Tensor, vectors: Tensor, params: CameraBlurParams) -> Tensor:
    """[M, 6]: no blur, the pan of every window, and what pairs of windows determine."""
    count = vectors.shape[1]
    still, pans = torch.zeros(1, NUM_PARAMETERS), torch.zeros(count, NUM_PARAMETERS)
    pans[:, :2] = vectors.T
    generator = torch.Generator().manual_seed(params.seed)
    first, second = torch.randint(count, (2, params.samples), generator=generator)
    apart = (basis[2:4, :, first] - basis[2:4, :, second]).abs().amax((0, 1)) > 0
    first, second = first[apart], second[apart]
    pairs = []
    for sign in (1, -1):  # of the second vector: its ends are not told apart
        matrices = torch.cat([basis[:_SAMPLED, :, first], basis[:_SAMPLED, :, second]], 1).permute(2, 1, 0)
        ends = torch.cat([vectors[:, first], sign * vectors[:, second]]).T
        pair = torch.zeros(len(first), NUM_PARAMETERS)
        pair[:, :_SAMPLED] = torch.linalg.solve(matrices, ends)
        pairs.append(pair)
    return torch.cat([still, pans, *pairs])


def _ascend(
    start: Tensor, psfs: Sequence[LocalPsfs], bases: Sequence[Tensor], params: CameraBlurParams
) -> Tensor:
    with torch.enable_grad():
        parameters = start.clone().requires_grad_()
        optimizer = torch.optim.Adam([parameters], lr=params.ascent_rate)
        for step in range(params.ascent_steps):
            optimizer.param_groups[0]["lr"] = params.ascent_rate * (
                0.5 + 0.5 * math.cos(math.pi * step / params.ascent_steps)
            )
            optimizer.zero_grad()
            (-_scores(parameters, psfs, bases, params).sum()).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return parameters.detach()


def _scores(
    parameters: Tensor, psfs: Sequence[LocalPsfs], bases: Sequence[Tensor], params: CameraBlurParams
) -> Tensor:
    """[M] mean log-probability of a window for parameters [M, 6], less the cost of what bends the field."""
    total = parameters.new_zeros(len(parameters))
    for each, basis in zip(psfs, bases, strict=True):
        vectors = torch.einsum("mp,pcn->nmc", parameters, basis)
        total = total + log_probability(each, vectors, floor=params.floor).sum(0)
    weights = parameters.new_tensor([0, 0] + 2 * [params.bend_weight] + 2 * [params.perspective_weight])
    windows = sum(basis.shape[2] for basis in bases)
    return total / windows - (parameters.abs() * weights).sum(1)
