"""Dense flow from Kornia's building blocks: differentiable, batched, on any device, without weights.

Combined local-global flow (Bruhn, Weickert & Schnörr 2005), coarse to fine. At each level it seeks the
step d that makes the least of

    sum over pixels of  charbonnier(target(x + u + d) - source(x)), gathered over a small window,
                        + alpha * edge(x) * |grad(u + d)|^2

with `edge` small where the source has an edge, so that motion may change there and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from kornia.filters import gaussian_blur2d, median_blur, spatial_gradient
from kornia.geometry import build_pyramid
from torch import Tensor
from torch.nn import functional

from .consistency import inside
from .warp import warp

_CHARBONNIER = 0.01  # gamma-coded step below which a difference counts as noise
_FAINT = 0.007  # gamma-coded local contrast that counts as noise
_EDGE = 0.015  # gamma-coded contrast per pixel across which motion may change
_RADIUS = 0.995  # spectral radius that the sweeps are tuned for
_SMALLEST = 24  # pixels of the shorter side of the coarsest level


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How hard to try. Each level warps `warps` times and relaxes `sweeps` times per warp."""

    warps: int = 4
    sweeps: int = 20
    alpha: float = 0.07  # smoothness against data
    window: float = 2.0  # pixels, standard deviation over which data are gathered
    finest: int = 1  # level at which to stop: 0 is full size, 1 half
    step: float = 1.0  # pixels of its level that one warp may move a point


_DEFAULT = Effort()


def variational_shift(
    source: Tensor, target: Tensor, *, start: Tensor | None = None, effort: Effort = _DEFAULT
) -> Tensor:
    """Find each pixel of `source` in `target`.

    Args:
        source: [B, 1, H, W] gamma-coded luma in [0, 1].
        target: As `source`.
        start: [B, 2, H, W] pixels, a first guess; only the two finest levels run then.
        effort: How hard to try.

    Returns:
        [B, 2, H, W] pixels.
    """
    depth = _levels(source, effort.finest)
    sources = build_pyramid(source, depth, border_type="replicate")
    targets = build_pyramid(target, depth, border_type="replicate")
    top = depth if start is None else min(depth, effort.finest + 2)
    shift = _resized(source.new_zeros(len(source), 2, 1, 1) if start is None else start, sources[top - 1])
    for level in reversed(range(min(effort.finest, top - 1), top)):
        near, far = _even(sources[level]), _even(targets[level])
        shift = _settle(near, far, _resized(shift, near), effort)
    return _resized(shift, source)


def _levels(image: Tensor, finest: int) -> int:
    depth, shorter = 1, min(image.shape[-2:])
    while shorter >= 2 * _SMALLEST:
        depth, shorter = depth + 1, shorter // 2
    return max(depth, min(finest + 1, depth))


def _resized(shift: Tensor, like: Tensor) -> Tensor:
    """The same motion on the grid of `like`, in its pixels."""
    if shift.shape[-2:] == like.shape[-2:]:
        return shift
    height, width = shift.shape[-2:]
    scale = shift.new_tensor([like.shape[-1] / width, like.shape[-2] / height]).reshape(2, 1, 1)
    grown: Tensor = functional.interpolate(shift, like.shape[-2:], mode="bilinear", align_corners=False)
    return grown * scale


def _even(luma: Tensor) -> Tensor:
    """Local contrast made even, so that haze moves as readily as chequers; noise is left small."""
    size = (min(17, luma.shape[-2] // 2 * 2 - 1), min(17, luma.shape[-1] // 2 * 2 - 1))
    details = luma - gaussian_blur2d(luma, size, (4.0, 4.0), border_type="replicate")
    contrast = gaussian_blur2d(details.square(), size, (4.0, 4.0), border_type="replicate").sqrt()
    evened: Tensor = 0.1 * details / (contrast + _FAINT)
    return evened


def _settle(source: Tensor, target: Tensor, shift: Tensor, effort: Effort) -> Tensor:
    links = _links(source, effort.alpha)
    for _ in range(effort.warps):
        moved = shift + _step(source, target, shift, links=links, effort=effort)
        shift = median_blur(moved, 3)
    return shift


def _step(source: Tensor, target: Tensor, shift: Tensor, *, links: Tensor, effort: Effort) -> Tensor:
    """[B, 2, h, w] the best small change of `shift`, by Jacobi sweeps on the linearised equations."""
    seen = warp(target, shift)
    dx, dy = spatial_gradient((source + seen) / 2, mode="diff").squeeze(1).unbind(1)
    change = (seen - source).squeeze(1)
    # Beyond the target's border nothing was seen: there the surroundings decide.
    weight = (change.square() + _CHARBONNIER**2).rsqrt() * inside(shift)
    terms = torch.stack((dx * dx, dx * dy, dy * dy, dx * change, dy * change), dim=1) * weight.unsqueeze(1)
    size = 2 * round(2 * effort.window) + 1
    terms = gaussian_blur2d(terms, (size, size), (effort.window, effort.window), border_type="replicate")
    xx, xy, yy, xt, yt = terms.unbind(1)
    mass = links.sum(1) + 1e-6
    det = (xx + mass) * (yy + mass) - xy * xy
    step = last = torch.zeros_like(shift)
    omega = 1.0
    for _ in range(effort.sweeps):
        pull = _pull(shift + step, links) - mass.unsqueeze(1) * shift
        px, py = pull[:, 0] - xt, pull[:, 1] - yt
        swept = torch.stack(((yy + mass) * px - xy * py, (xx + mass) * py - xy * px), dim=1)
        swept = swept / det.unsqueeze(1)
        last, step = step, omega * (swept - last) + last
        # Chebyshev's weights make Jacobi sweeps reach about the square of their usual distance.
        omega = 1 / (1 - _RADIUS**2 * omega / (4 if omega > 1 else 2))
    return step.clamp(-effort.step, effort.step)


def _links(source: Tensor, alpha: float) -> Tensor:
    """[B, 4, h, w] how strongly each pixel is tied to its left, right, upper and lower neighbour."""
    padded = functional.pad(source, (1, 1, 1, 1), mode="replicate")
    jumps = [(near - source).abs() for near in _neighbours(padded)]
    ties = alpha * torch.exp(-torch.cat(jumps, dim=1) / _EDGE)
    border = functional.pad(torch.ones_like(source), (1, 1, 1, 1))
    return (ties + alpha * 0.02) * torch.cat(_neighbours(border), dim=1)


def _pull(shift: Tensor, links: Tensor) -> Tensor:
    padded = functional.pad(shift, (1, 1, 1, 1), mode="replicate")
    return sum(
        (near * links[:, k : k + 1] for k, near in enumerate(_neighbours(padded))),
        start=torch.zeros_like(shift),
    )


def _neighbours(padded: Tensor) -> list[Tensor]:
    height, width = padded.shape[-2:]
    places = ((0, 1), (2, 1), (1, 0), (1, 2))  # left, right, upper, lower as (x, y)
    return [padded[..., y : y + height - 2, x : x + width - 2] for x, y in places]
