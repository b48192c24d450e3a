"""Cubic splines and Bézier curves through tensors."""

from __future__ import annotations

from functools import lru_cache
from math import comb

import torch
from torch import Tensor


def spline_slopes(times: Tensor) -> Tensor:
    """[T, T] matrix from the knots of a natural cubic spline to its slopes there (de Boor 1978, IV).

    Takes no gradient.
    """
    return _spline_slopes(tuple(times.tolist())).to(times)


@lru_cache
def _spline_slopes(knots: tuple[float, ...]) -> Tensor:
    """In float64. The steps of a fit ask for the same knots many times."""
    count, times = len(knots), torch.tensor(knots, dtype=torch.float64)
    if count == 1:
        return torch.zeros(1, 1)
    inverse_gaps = 1 / times.diff()
    left, right = torch.zeros(count, count).to(times), torch.zeros(count, count).to(times)
    for k, gap in enumerate(inverse_gaps):
        # The second derivative is continuous at the knots and zero at both ends.
        left[k : k + 2, k : k + 2] += gap * torch.tensor([[2.0, 1], [1, 2]]).to(times)
        right[k : k + 2, k : k + 2] += 3 * gap**2 * torch.tensor([[-1.0, 1], [-1, 1]]).to(times)
    slopes: Tensor = torch.linalg.solve(left, right)
    return slopes


def hermite(query: Tensor, times: Tensor, values: Tensor, slopes: Tensor) -> Tensor:
    """[M, D] cubic spline at the times `query` [M], extrapolated linearly beyond the knots.

    Args:
        query: Any times. [M].
        times: Times of the knots, increasing. [T].
        values: Values at the knots. [T, D].
        slopes: Derivatives at the knots. [T, D].
    """
    if len(times) == 1:
        return values + (query[:, None] - times) * slopes
    inside = query.detach().clamp(times[0], times[-1])
    k = (torch.searchsorted(times, inside, right=True) - 1).clamp(0, len(times) - 2)
    clamped = torch.minimum(torch.maximum(query, times[0]), times[-1])
    gap = (times[k + 1] - times[k])[:, None]
    u = (clamped - times[k])[:, None] / gap
    start, end = values[k], values[k + 1]
    bend = (1 - u) * gap * slopes[k] - u * gap * slopes[k + 1] + (2 * u - 1) * (end - start)
    end_slope = torch.where((query > times[-1])[:, None], slopes[-1], slopes[0])
    extrapolation = (query - clamped)[:, None] * end_slope
    return start + u * (end - start) + u * (1 - u) * bend + extrapolation


def bezier(control_points: Tensor, t: Tensor) -> Tensor:
    """[M, D] points of a Bézier curve with control points [N, D], at `t` [M] in [0, 1]."""
    order = len(control_points) - 1
    bernstein = [comb(order, k) * t**k * (1 - t) ** (order - k) for k in range(order + 1)]
    return torch.stack(bernstein, dim=-1) @ control_points
