"""Variational optical flow on Kornia: differentiable, batched, on any device, without trained weights.

Combined local-global flow (Bruhn, Weickert & Schnörr 2005), coarse to fine. Each level minimises over the
update d

    sum over pixels of  charbonnier(target(x + u + d) - source(x)), averaged over a small window,
                        + alpha * edge(x) * |grad(u + d)|^2

with `edge` small at the edges of the source: flow discontinuities are cheap there and expensive elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from kornia.filters import gaussian_blur2d, median_blur, spatial_gradient
from kornia.geometry import build_pyramid
from torch import Tensor
from torch.nn import functional

from .consistency import in_bounds
from .warp import warp


@dataclass(frozen=True, slots=True, kw_only=True)
class SolverConfig:
    """Tunables of the solver."""

    warps: int = 4  # linearisations per level
    sweeps: int = 20  # Jacobi sweeps per linearisation
    alpha: float = 0.07  # weight of the smoothness term
    window: float = 2.0  # pixels: standard deviation of the window of the data term
    finest: int = 1  # last level: 0 is full size, 1 half
    step: float = 1.0  # pixels of its level: largest update per linearisation
    charbonnier: float = 0.01  # difference of normalised luma at which the data term turns from L2 to L1
    noise_contrast: float = 0.007  # gamma-coded local contrast below which contrast is not normalised
    edge_contrast: float = 0.015  # normalised luma per pixel at which the smoothness weight is down to 1 / e
    spectral_radius: float = 0.995  # of the Jacobi iteration, for Chebyshev acceleration
    min_side: int = 24  # pixels of the shorter side of the coarsest level


_DEFAULT = SolverConfig()


def variational_uv(
    source: Tensor, target: Tensor, *, start: Tensor | None = None, config: SolverConfig = _DEFAULT
) -> Tensor:
    """Estimate the flow from `source` to `target`.

    Args:
        source: [B, 1, H, W] gamma-coded luma in [0, 1].
        target: As `source`.
        start: [B, 2, H, W] pixels: initial flow; only the two finest levels are solved then.
        config: Tunables.

    Returns:
        [B, 2, H, W] pixels.
    """
    depth = _levels(source, config)
    sources = build_pyramid(source, depth, border_type="replicate")
    targets = build_pyramid(target, depth, border_type="replicate")
    top = depth if start is None else min(depth, config.finest + 2)
    uv = _resize(source.new_zeros(len(source), 2, 1, 1) if start is None else start, sources[top - 1])
    for level in reversed(range(min(config.finest, top - 1), top)):
        one, other = (_normalise_contrast(pyramid[level], config) for pyramid in (sources, targets))
        uv = _solve_level(one, other, _resize(uv, one), config)
    return _resize(uv, source)


def _levels(image: Tensor, config: SolverConfig) -> int:
    depth, shorter = 1, min(image.shape[-2:])
    while shorter >= 2 * config.min_side:
        depth, shorter = depth + 1, shorter // 2
    return max(depth, min(config.finest + 1, depth))


def _resize(uv: Tensor, like: Tensor) -> Tensor:
    """Resample and rescale a flow to the grid of `like`."""
    if uv.shape[-2:] == like.shape[-2:]:
        return uv
    height, width = uv.shape[-2:]
    scale = uv.new_tensor([like.shape[-1] / width, like.shape[-2] / height]).reshape(2, 1, 1)
    resized: Tensor = functional.interpolate(uv, like.shape[-2:], mode="bilinear", align_corners=False)
    return resized * scale


def _normalise_contrast(luma: Tensor, config: SolverConfig) -> Tensor:
    """High-pass `luma` and divide it by its local contrast, without amplifying noise."""
    size = (min(17, luma.shape[-2] // 2 * 2 - 1), min(17, luma.shape[-1] // 2 * 2 - 1))
    details = luma - gaussian_blur2d(luma, size, (4.0, 4.0), border_type="replicate")
    contrast = gaussian_blur2d(details.square(), size, (4.0, 4.0), border_type="replicate").sqrt()
    normalised: Tensor = 0.1 * details / (contrast + config.noise_contrast)
    return normalised


def _solve_level(source: Tensor, target: Tensor, uv: Tensor, config: SolverConfig) -> Tensor:
    smoothness = _smoothness_weights(source, config)
    for _ in range(config.warps):
        updated = uv + _update(source, target, uv, smoothness=smoothness, config=config)
        uv = median_blur(updated, 3)
    return uv


def _update(
    source: Tensor, target: Tensor, uv: Tensor, *, smoothness: Tensor, config: SolverConfig
) -> Tensor:
    """[B, 2, h, w] update of `uv`, by Jacobi sweeps on the linearised equations."""
    xx, xy, yy, xt, yt = _motion_tensor(source, target, uv, config)
    diagonal = smoothness.sum(1) + 1e-6
    det = (xx + diagonal) * (yy + diagonal) - xy * xy
    step = last = torch.zeros_like(uv)
    omega = 1.0
    for _ in range(config.sweeps):
        smooth_sum = _neighbour_sum(uv + step, smoothness) - diagonal.unsqueeze(1) * uv
        px, py = smooth_sum[:, 0] - xt, smooth_sum[:, 1] - yt
        relaxed = torch.stack(((yy + diagonal) * px - xy * py, (xx + diagonal) * py - xy * px), dim=1)
        relaxed = relaxed / det.unsqueeze(1)
        last, step = step, omega * (relaxed - last) + last
        # Chebyshev acceleration: n sweeps converge about as far as n^2 plain ones.
        omega = 1 / (1 - config.spectral_radius**2 * omega / (4 if omega > 1 else 2))
    return step.clamp(-config.step, config.step)


def _motion_tensor(source: Tensor, target: Tensor, uv: Tensor, config: SolverConfig) -> tuple[Tensor, ...]:
    """Weighted window sums of Ix Ix, Ix Iy, Iy Iy, Ix It and Iy It, [B, h, w] each."""
    warped = warp(target, uv)
    dx, dy = spatial_gradient((source + warped) / 2, mode="diff").squeeze(1).unbind(1)
    dt = (warped - source).squeeze(1)
    # Outside the target there are no data: the smoothness term decides alone.
    weight = (dt.square() + config.charbonnier**2).rsqrt() * in_bounds(uv)
    terms = torch.stack((dx * dx, dx * dy, dy * dy, dx * dt, dy * dt), dim=1) * weight.unsqueeze(1)
    size = 2 * round(2 * config.window) + 1
    terms = gaussian_blur2d(terms, (size, size), (config.window, config.window), border_type="replicate")
    tensor: tuple[Tensor, ...] = terms.unbind(1)
    return tensor


def _smoothness_weights(source: Tensor, config: SolverConfig) -> Tensor:
    """[B, 4, h, w] weight of the smoothness term to the left, right, upper and lower neighbour."""
    padded = functional.pad(source, (1, 1, 1, 1), mode="replicate")
    steps = [(neighbour - source).abs() for neighbour in _neighbours(padded)]
    edge_weights = config.alpha * torch.exp(-torch.cat(steps, dim=1) / config.edge_contrast)
    border = functional.pad(torch.ones_like(source), (1, 1, 1, 1))
    return (edge_weights + config.alpha * 0.02) * torch.cat(_neighbours(border), dim=1)


def _neighbour_sum(uv: Tensor, smoothness: Tensor) -> Tensor:
    padded = functional.pad(uv, (1, 1, 1, 1), mode="replicate")
    return sum(
        (neighbour * smoothness[:, k : k + 1] for k, neighbour in enumerate(_neighbours(padded))),
        start=torch.zeros_like(uv),
    )


def _neighbours(padded: Tensor) -> list[Tensor]:
    height, width = padded.shape[-2:]
    offsets = ((0, 1), (2, 1), (1, 0), (1, 2))  # left, right, upper, lower as (x, y)
    return [padded[..., y : y + height - 2, x : x + width - 2] for x, y in offsets]
