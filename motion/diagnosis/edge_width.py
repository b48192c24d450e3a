"""How wide edges are, and which way they face: what blur of any kind leaves to measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_FINE_SIGMA, _COARSE_SIGMA = 1.0, 2.0  # pixels, standard deviations of the two looks at each edge
_SOBEL_VARIANCE = 1 / 3  # pixels squared: variance that taking slopes from pixel to pixel adds to either look
_MIN_SLOPE = 0.012  # gamma-coded contrast per pixel, the least that an edge of the finer look must have
_MAX_WIDTH = 8.0  # pixels; two looks so fine cannot tell wider edges apart
_MIN_EDGES = 12  # edge points, fewer say nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """Points on the crests of the slopes of a picture."""

    x: Array  # [N] columns
    y: Array  # [N] rows
    normal_angle: Array  # [N] radians in [0, pi): direction of the steepest slope
    width: Array  # [N] pixels: standard deviation of the blur that made a step into this edge

    def in_rectangle(self, rows: slice, columns: slice) -> Edges:
        """The edge points of one rectangle."""
        inside = (self.y >= rows.start) & (self.y < rows.stop)
        return self.select(inside & (self.x >= columns.start) & (self.x < columns.stop))

    def select_by_normal(self, direction: float, *, tolerance: float = np.pi / 6) -> Edges:
        """The edge points that face within an angle of `direction`, radians, forth or back."""
        angle_error = np.abs((self.normal_angle - direction + np.pi / 2) % np.pi - np.pi / 2)
        return self.select(angle_error < tolerance)

    def select(self, index: Array) -> Edges:
        return Edges(
            x=self.x[index], y=self.y[index], normal_angle=self.normal_angle[index], width=self.width[index]
        )

    def width_quantile(self, quantile: float = 0.5) -> float | None:
        """Width in pixels that `quantile` of the edges stay under, None where there are too few edges."""
        return float(np.quantile(self.width, quantile)) if len(self.width) >= _MIN_EDGES else None


def find_edges(luma: Array, *, noise: float = 0.0) -> Edges:
    """Edge points and widths of a picture.

    A step blurred by w and seen through Gaussians a and b has slopes in the ratio
    sqrt(w^2 + b^2) / sqrt(w^2 + a^2) at its crest, whatever its contrast (Zhuo & Sim 2011).

    Args:
        luma: [H, W] gamma-coded brightness in [0, 1].
        noise: Its standard deviation; weaker slopes than noise makes are left out.
    """
    luma = luma.astype(np.float32)
    dx, dy = _slopes(luma, _FINE_SIGMA)
    fine, coarse = np.hypot(dx, dy), np.hypot(*_slopes(luma, _COARSE_SIGMA))
    rows, columns = np.nonzero(_local_maxima(fine, dx, dy) & (fine > max(_MIN_SLOPE, 1.5 * noise)))
    ratio = (fine[rows, columns] / np.maximum(coarse[rows, columns], 1e-6)) ** 2
    variance = (_COARSE_SIGMA**2 - ratio * _FINE_SIGMA**2) / np.maximum(ratio - 1, 1e-6)
    width = np.sqrt(np.clip(variance - _SOBEL_VARIANCE, 0, _MAX_WIDTH**2))
    normal_angle = np.arctan2(dy, dx)[rows, columns] % np.pi
    return Edges(x=columns, y=rows, normal_angle=normal_angle, width=width)


def blur_from_edge_widths(edges: Edges) -> tuple[float, float]:
    """Length in pixels and direction in radians of the straight blur that edges of all directions tell of.

    Straight blur of length L widens the edges that face it by L^2 / 12 in variance, and leaves those that
    face away. (0, 0) where edges of too few directions are there.
    """
    angles = np.arange(12) * np.pi / 12
    # The sharper edges of each direction: every scene has soft ones too, motion leaves no sharp ones.
    widths = [edges.select_by_normal(angle, tolerance=np.pi / 12).width_quantile(0.2) for angle in angles]
    if any(width is None for width in widths):
        return 0.0, 0.0
    variance = np.array([width or 0.0 for width in widths]) ** 2
    # The second harmonic: the part of the variance that turns once in half a turn.
    second_harmonic = 2 * (variance * np.exp(2j * angles)).mean()
    return float(np.sqrt(12 * 2 * abs(second_harmonic))), float(np.angle(second_harmonic) / 2 % np.pi)


def _slopes(luma: Array, sigma: float) -> tuple[Array, Array]:
    smooth = cv2.GaussianBlur(luma, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    return cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=0.125)


def _local_maxima(slope: Array, dx: Array, dy: Array) -> Array:
    """Where the slope is steeper than a step up and a step down the hill."""
    padded = np.pad(slope, 1, mode="edge")
    sideways = np.abs(dx) >= np.abs(dy)
    left, right = padded[1:-1, :-2], padded[1:-1, 2:]
    above, below = padded[:-2, 1:-1], padded[2:, 1:-1]
    neighbour = np.where(sideways, np.maximum(left, right), np.maximum(above, below))
    is_maximum = slope >= neighbour
    is_maximum[:3], is_maximum[-3:], is_maximum[:, :3], is_maximum[:, -3:] = False, False, False, False
    return np.asarray(is_maximum)
