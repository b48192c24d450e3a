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

from .consistency import in_bounds
from .warp import warp

_CHARBONNIER = 0.01  # gamma-coded step below which a difference counts as noise
_NOISE_CONTRAST = 0.007  # gamma-coded local contrast that counts as noise
_EDGE_CONTRAST = 0.015  # gamma-coded contrast per pixel across which motion may change
_SPECTRAL_RADIUS = 0.995  # spectral radius that the sweeps are tuned for
_MIN_SIDE = 24  # pixels of the shorter side of the coarsest level


@dataclass(frozen=True, slots=True, kw_only=True)
class SolverConfig:
    """How hard to try. Each level warps `warps` times and relaxes `sweeps` times per warp."""

    warps: int = 4
    sweeps: int = 20
    alpha: float = 0.07  # smoothness against data
    window: float = 2.0  # pixels, standard deviation over which data are gathered
    finest: int = 1  # level at which to stop: 0 is full size, 1 half
    step: float = 1.0  # pixels of its level that one warp may move a point


_DEFAULT = SolverConfig()


def variational_uv(
    source: Tensor, target: Tensor, *, start: Tensor | None = None, config: SolverConfig = _DEFAULT
) -> Tensor:
    """Find each pixel of `source` in `target`.

    Args:
        source: [B, 1, H, W] gamma-coded luma in [0, 1].
        target: As `source`.
        start: [B, 2, H, W] pixels, a first guess; only the two finest levels run then.
        config: How hard to try.

    Returns:
        [B, 2, H, W] pixels.
    """
    depth = _levels(source, config.finest)
    sources = build_pyramid(source, depth, border_type="replicate")
    targets = build_pyramid(target, depth, border_type="replicate")
    top = depth if start is None else min(depth, config.finest + 2)
    uv = _resize(source.new_zeros(len(source), 2, 1, 1) if start is None else start, sources[top - 1])
    for level in reversed(range(min(config.finest, top - 1), top)):
        source_level, target_level = _normalise_contrast(sources[level]), _normalise_contrast(targets[level])
        uv = _solve_level(source_level, target_level, _resize(uv, source_level), config)
    return _resize(uv, source)


def _levels(image: Tensor, finest: int) -> int:
    depth, shorter = 1, min(image.shape[-2:])
    while shorter >= 2 * _MIN_SIDE:
        depth, shorter = depth + 1, shorter // 2
    return max(depth, min(finest + 1, depth))


def _resize(uv: Tensor, like: Tensor) -> Tensor:
    """The same motion on the grid of `like`, in its pixels."""
    if uv.shape[-2:] == like.shape[-2:]:
        return uv
    height, width = uv.shape[-2:]
    scale = uv.new_tensor([like.shape[-1] / width, like.shape[-2] / height]).reshape(2, 1, 1)
    resized: Tensor = functional.interpolate(uv, like.shape[-2:], mode="bilinear", align_corners=False)
    return resized * scale


def _normalise_contrast(luma: Tensor) -> Tensor:
    """Local contrast made even, so that haze moves as readily as chequers; noise is left small."""
    size = (min(17, luma.shape[-2] // 2 * 2 - 1), min(17, luma.shape[-1] // 2 * 2 - 1))
    details = luma - gaussian_blur2d(luma, size, (4.0, 4.0), border_type="replicate")
    contrast = gaussian_blur2d(details.square(), size, (4.0, 4.0), border_type="replicate").sqrt()
    normalised: Tensor = 0.1 * details / (contrast + _NOISE_CONTRAST)
    return normalised


def _solve_level(source: Tensor, target: Tensor, uv: Tensor, config: SolverConfig) -> Tensor:
    smoothness = _smoothness_weights(source, config.alpha)
    for _ in range(config.warps):
        updated = uv + _step(source, target, uv, smoothness=smoothness, config=config)
        uv = median_blur(updated, 3)
    return uv


def _step(source: Tensor, target: Tensor, uv: Tensor, *, smoothness: Tensor, config: SolverConfig) -> Tensor:
    """[B, 2, h, w] the best small change of `uv`, by Jacobi sweeps on the linearised equations."""
    warped = warp(target, uv)
    dx, dy = spatial_gradient((source + warped) / 2, mode="diff").squeeze(1).unbind(1)
    temporal_difference = (warped - source).squeeze(1)
    # Beyond the target's border nothing was seen: there the surroundings decide.
    weight = (temporal_difference.square() + _CHARBONNIER**2).rsqrt() * in_bounds(uv)
    terms = torch.stack(
        (dx * dx, dx * dy, dy * dy, dx * temporal_difference, dy * temporal_difference), dim=1
    ) * weight.unsqueeze(1)
    size = 2 * round(2 * config.window) + 1
    terms = gaussian_blur2d(terms, (size, size), (config.window, config.window), border_type="replicate")
    xx, xy, yy, xt, yt = terms.unbind(1)
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
        # Chebyshev's weights make Jacobi sweeps reach about the square of their usual distance.
        omega = 1 / (1 - _SPECTRAL_RADIUS**2 * omega / (4 if omega > 1 else 2))
    return step.clamp(-config.step, config.step)


def _smoothness_weights(source: Tensor, alpha: float) -> Tensor:
    """[B, 4, h, w] how strongly each pixel is tied to its left, right, upper and lower neighbour."""
    padded = functional.pad(source, (1, 1, 1, 1), mode="replicate")
    jumps = [(neighbour - source).abs() for neighbour in _neighbours(padded)]
    edge_weights = alpha * torch.exp(-torch.cat(jumps, dim=1) / _EDGE_CONTRAST)
    border = functional.pad(torch.ones_like(source), (1, 1, 1, 1))
    return (edge_weights + alpha * 0.02) * torch.cat(_neighbours(border), dim=1)


def _neighbour_sum(uv: Tensor, smoothness: Tensor) -> Tensor:
    padded = functional.pad(uv, (1, 1, 1, 1), mode="replicate")
    return sum(
        (neighbour * smoothness[:, k : k + 1] for k, neighbour in enumerate(_neighbours(padded))),
        start=torch.zeros_like(uv),
    )


def _neighbours(padded: Tensor) -> list[Tensor]:
    height, width = padded.shape[-2:]
    places = ((0, 1), (2, 1), (1, 0), (1, 2))  # left, right, upper, lower as (x, y)
    return [padded[..., y : y + height - 2, x : x + width - 2] for x, y in places]
