"""Position, orientation and blur width of edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeConfig:
    """Tunables of the edge detector."""

    fine_sigma: float = 1.0  # pixels: standard deviations of the two Gaussians
    coarse_sigma: float = 2.0
    sobel_variance: float = 1 / 3  # pixels squared: blur of the Sobel operator itself
    min_slope: float = 0.012  # gamma-coded contrast per pixel at `fine_sigma`
    max_width: float = 8.0  # pixels; two Gaussians as narrow do not distinguish wider edges


_DEFAULT = EdgeConfig()
_MIN_EDGES = 12  # edge points of a quantile
_BORDER = 3  # pixels beside the border without edge points


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """Edge points: local maxima of the gradient magnitude along the gradient."""

    x: Array  # [N] columns
    y: Array  # [N] rows
    normal_angle: Array  # [N] radians in [0, pi): direction of the gradient
    width: Array  # [N] pixels: standard deviation of the blur of a step edge

    def select_by_normal(self, direction: float, *, tolerance: float = np.pi / 6) -> Edges:
        """The edge points whose normal is within `tolerance` of `direction`, radians modulo pi."""
        angle_error = np.abs((self.normal_angle - direction + np.pi / 2) % np.pi - np.pi / 2)
        return self.select(angle_error < tolerance)

    def select(self, index: Array) -> Edges:
        """The edge points of a mask or index."""
        return Edges(
            x=self.x[index], y=self.y[index], normal_angle=self.normal_angle[index], width=self.width[index]
        )

    def shift(self, rows: int) -> Edges:
        """The edge points, `rows` further down."""
        return replace(self, y=self.y + rows)

    def width_quantile(self, quantile: float = 0.5) -> float | None:
        """Quantile of the width in pixels, None with too few edges."""
        return float(np.quantile(self.width, quantile)) if len(self.width) >= _MIN_EDGES else None


def join_edges(parts: Sequence[Edges]) -> Edges:
    """The edge points of all parts."""
    return Edges(
        x=np.concatenate([part.x for part in parts]),
        y=np.concatenate([part.y for part in parts]),
        normal_angle=np.concatenate([part.normal_angle for part in parts]),
        width=np.concatenate([part.width for part in parts]),
    )


def find_edges(luma: Array, *, noise: float = 0.0, config: EdgeConfig = _DEFAULT) -> Edges:
    """Detect edge points and estimate their widths.

    The gradient magnitudes of a step of blur w under Gaussians a and b have the ratio
    sqrt(w^2 + b^2) / sqrt(w^2 + a^2) on the edge, whatever its contrast (Zhuo & Sim 2011).

    Args:
        luma: [H, W] gamma-coded luma in [0, 1].
        noise: Its standard deviation; gradients below 1.5 times of it are ignored.
        config: Tunables.
    """
    luma = luma.astype(np.float32)
    dx, dy = _gradient(luma, config.fine_sigma)
    rows, columns = _local_maxima(cv2.magnitude(dx, dy), dx, dy, max(config.min_slope, 1.5 * noise))
    normal = dx[rows, columns], dy[rows, columns]
    coarse = np.hypot(*(slope[rows, columns] for slope in _gradient(luma, config.coarse_sigma)))
    ratio = (np.hypot(*normal) / np.maximum(coarse, 1e-6)) ** 2
    variance = (config.coarse_sigma**2 - ratio * config.fine_sigma**2) / np.maximum(ratio - 1, 1e-6)
    width = np.sqrt(np.clip(variance - config.sobel_variance, 0, config.max_width**2))
    return Edges(x=columns, y=rows, normal_angle=np.arctan2(normal[1], normal[0]) % np.pi, width=width)


def blur_from_edge_widths(edges: Edges) -> tuple[float, float]:
    """Length in pixels and direction in radians of straight motion blur, from edges of all directions.

    Straight blur of length L adds L^2 / 12 to the variance of edges perpendicular to it, and nothing to that
    of parallel edges. (0, 0) if some direction has too few edges.
    """
    angles = np.arange(12) * np.pi / 12
    # A low quantile: every scene has soft edges too, motion leaves no sharp ones.
    widths = [edges.select_by_normal(angle, tolerance=np.pi / 12).width_quantile(0.2) for angle in angles]
    if any(width is None for width in widths):
        return 0.0, 0.0
    variance = np.array([width or 0.0 for width in widths]) ** 2
    # Second harmonic of the variance as a function of direction, whose period is pi.
    second_harmonic = 2 * (variance * np.exp(2j * angles)).mean()
    return float(np.sqrt(12 * 2 * abs(second_harmonic))), float(np.angle(second_harmonic) / 2 % np.pi)


def _gradient(luma: Array, sigma: float) -> tuple[Array, Array]:
    smooth = cv2.GaussianBlur(luma, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    return cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=0.125)


def _local_maxima(slope: Array, dx: Array, dy: Array, limit: float) -> tuple[Array, Array]:
    """Rows and columns where `slope` exceeds `limit` and both neighbours along the gradient (Canny 1986)."""
    rows, columns = np.nonzero(slope[_BORDER:-_BORDER, _BORDER:-_BORDER] > limit)
    rows, columns = rows + _BORDER, columns + _BORDER
    horizontal = np.abs(dx[rows, columns]) >= np.abs(dy[rows, columns])
    x, y = horizontal.astype(int), 1 - horizontal.astype(int)
    here = slope[rows, columns]
    is_maximum = (here >= slope[rows - y, columns - x]) & (here >= slope[rows + y, columns + x])
    return rows[is_maximum], columns[is_maximum]
