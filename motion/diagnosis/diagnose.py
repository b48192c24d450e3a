"""What ails a frame: how long its blur is, which way it points and what made it; noise; blocks.

Nothing here takes a gradient.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from freezeframe.data.types import Cause, Motion
from freezeframe.motion.flow.estimators import gamma_luma

from .edge_width import Edges, blur_from_edge_widths, find_edges

Array = NDArray[Any]

_MIN_BLUR = 1.0  # pixels; shorter blur is within what a lens and a codec do anyway
_MIN_BLIND_BLUR = 3.0  # pixels; scenes alone make edges of one direction wider by as much
_DEFOCUS_SIGMA = 1.6  # pixels, standard deviation; wider edges on all sides are out of focus
_TOP_FRACTION = 0.02  # the blur of a frame or a region is what its most blurred fiftieth exceeds
_GRID = (6, 10)  # rows and columns of regions
_MIN_SIDE = 3  # pixels of the shorter side below which no second difference tells of noise


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """One rectangle of a frame."""

    blur: float  # pixels: motion blur that a fiftieth of the region exceeds
    direction: float  # radians in [0, pi), 0 along rows, growing downwards
    defocus: float  # pixels: standard deviation of what blurs all directions alike
    cause: Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What ails one frame."""

    blur: float  # pixels: motion blur that a fiftieth of the frame exceeds
    direction: float  # radians in [0, pi), of that blur
    defocus: float  # pixels: standard deviation of what blurs all directions alike
    cause: Cause  # of most of the blur
    sharpness: float  # cycles per pixel at which half the contrast is left on a typical edge, up to 0.5
    noise: float  # standard deviation of the gamma-coded light, 0 to 1
    blockiness: float  # how much larger steps are between coding blocks than within; 0 is none
    regions: tuple[tuple[Region, ...], ...]  # rows of regions

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists, for JSON."""
        return asdict(self)


def diagnose_clip(images: Tensor, motion: Motion) -> list[Diagnosis]:
    """Diagnose every frame of [T, 3, H, W] linear RGB from the motion measured between them."""
    return [
        diagnose(image, blur=vectors, independent_motion=independent_motion)
        for image, vectors, independent_motion in zip(
            images, motion.blur, motion.independent_motion, strict=True
        )
    ]


def diagnose(
    image: Tensor,
    *,
    blur: Tensor | None = None,
    independent_motion: Tensor | None = None,
    grid: tuple[int, int] = _GRID,
) -> Diagnosis:
    """Say what blurs a frame, where and how much.

    Args:
        image: [3, H, W] linear RGB.
        blur: [2, H, W] pixels: path of each point while the shutter was open, `Motion.blur`. Without it the
            frame's edges are all there is, and their answer holds for the whole frame.
        independent_motion: [H, W] in [0, 1]: what moves otherwise than the camera; None for nothing.
        grid: Rows and columns of regions; fewer where the frame has fewer pixels.
    """
    luma = gamma_luma(image).cpu().numpy()
    noise = noise_level(luma)
    edges = find_edges(luma, noise=noise)
    vectors = _blur_from_edges(edges, luma.shape) if blur is None else blur.cpu().numpy()
    mover_mask = np.zeros_like(luma) if independent_motion is None else independent_motion.cpu().numpy()
    regions = tuple(
        tuple(
            _region(edges, vectors, mover_mask, rows, columns) for columns in _split(luma.shape[1], grid[1])
        )
        for rows in _split(luma.shape[0], grid[0])
    )
    length, direction = _dominant_blur(vectors)
    defocus = _defocus(edges, length, direction)
    return Diagnosis(
        blur=length,
        direction=direction,
        defocus=defocus,
        cause=_main_cause(regions),
        sharpness=_half_contrast(edges.width_quantile()),
        noise=noise,
        blockiness=blockiness(luma),
        regions=regions,
    )


def noise_level(luma: Array) -> float:
    """Standard deviation of the noise in [H, W] gamma-coded light, 0 to 1.

    Immerkaer's (1996) second difference is blind to ramps and straight edges; its quietest blocks show
    noise alone. Blocks at the ends of the scale are left out: clipping hides noise.
    """
    if min(luma.shape) < _MIN_SIDE:
        return 0.0
    encoded = luma.astype(np.float32)
    kernel = np.outer([1, -2, 1], [1, -2, 1]).astype(np.float32)
    rough = np.abs(cv2.filter2D(encoded, cv2.CV_32F, kernel)[1:-1, 1:-1])
    roughness, brightness = _block_means(rough), _block_means(encoded[1:-1, 1:-1])
    unclipped = roughness[(brightness > 0.02) & (brightness < 0.98)]
    quiet = np.quantile(unclipped if len(unclipped) > 20 else roughness.ravel(), 0.05)
    # |N(0, 1)| has mean sqrt(2 / pi), the kernel gain 6; a quietest twentieth is quieter by a fourteenth.
    return float(quiet * math.sqrt(math.pi / 2) / 6 * 1.07)


def blockiness(luma: Array) -> float:
    """How much larger steps are across an eight-pixel grid than elsewhere, relative; 0 is none.

    The grid's phase is found by itself, as cropped files have any.
    """
    across = np.abs(np.diff(luma.astype(np.float32), 2, axis=1)).mean(0)
    down = np.abs(np.diff(luma.astype(np.float32), 2, axis=0)).mean(1)
    return max(0.0, (_grid_excess(across) + _grid_excess(down)) / 2)


def _grid_excess(steps: Array) -> float:
    whole = steps[: len(steps) // 8 * 8].reshape(-1, 8)
    if not len(whole):
        return 0.0
    phases = np.median(whole, axis=0)
    # A step between two pixels shows in both second differences that hold it.
    pairs = phases + np.roll(phases, -1)
    return float(pairs.max() / max(np.median(pairs), 1e-6) - 1)


def _block_means(values: Array, side: int = 16) -> Array:
    side = min(side, *values.shape)
    rows, columns = (size // side * side for size in values.shape)
    blocks = values[:rows, :columns].reshape(rows // side, side, columns // side, side)
    return np.asarray(blocks.mean((1, 3)))


def _split(size: int, parts: int) -> Iterator[slice]:
    parts = min(parts, size)
    bounds = [round(size * k / parts) for k in range(parts + 1)]
    return (slice(a, b) for a, b in itertools.pairwise(bounds))


def _blur_from_edges(edges: Edges, shape: tuple[int, ...]) -> Array:
    length, direction = blur_from_edge_widths(edges)
    if length < _MIN_BLIND_BLUR:
        length = 0.0
    vector = np.array([math.cos(direction), math.sin(direction)], np.float32) * length
    return np.broadcast_to(vector[:, None, None], (2, *shape))


def _dominant_blur(vectors: Array) -> tuple[float, float]:
    """Length that the most blurred fiftieth exceeds, and that fiftieth's mean direction."""
    x, y = vectors[0, ::4, ::4].ravel(), vectors[1, ::4, ::4].ravel()
    length = np.hypot(x, y)
    limit = np.quantile(length, 1 - _TOP_FRACTION)
    doubled_angle = ((x + 1j * y) ** 2)[length >= limit].mean()  # squared: forth and back are one direction
    return float(limit), float(np.angle(doubled_angle) / 2 % np.pi)


def _region(edges: Edges, vectors: Array, mover_mask: Array, rows: slice, columns: slice) -> Region:
    length, direction = _dominant_blur(vectors[:, rows, columns])
    defocus = _defocus(edges.in_rectangle(rows, columns), length, direction)
    strongly_blurred = np.hypot(*vectors[:, rows, columns]) >= 0.9 * length
    moving: Cause = "object" if mover_mask[rows, columns][strongly_blurred].mean() > 0.5 else "camera"
    return Region(
        blur=length, direction=direction, defocus=defocus, cause=_cause(length, defocus, moving=moving)
    )


def _defocus(edges: Edges, length: float, direction: float) -> float:
    """Width of the edges that motion does not widen: those that face across it."""
    unblurred = edges.select_by_normal(direction + math.pi / 2) if length >= _MIN_BLUR else edges
    return unblurred.width_quantile() or 0.0


def _cause(length: float, defocus: float, *, moving: Cause) -> Cause:
    # Spread evenly over its length L, motion blur has the standard deviation L / sqrt(12).
    if length >= _MIN_BLUR and (defocus < _DEFOCUS_SIGMA or length / math.sqrt(12) > defocus):
        return moving
    return "defocus" if defocus >= _DEFOCUS_SIGMA else "none"


def _main_cause(regions: tuple[tuple[Region, ...], ...]) -> Cause:
    flat = [region for row in regions for region in row]
    soft = [region for region in flat if region.cause == "defocus"]
    moved = [region for region in flat if region.cause in ("camera", "object")]
    # Every picture has something out of focus; motion in a single region is news.
    if 2 * len(soft) > len(flat) and len(soft) >= len(moved):
        return "defocus"
    by_object = sum(region.blur for region in moved if region.cause == "object")
    if not moved:
        return "none"
    return "object" if 2 * by_object > sum(region.blur for region in moved) else "camera"


def _half_contrast(width: float | None) -> float:
    """Spatial frequency at which a Gaussian blur of `width` pixels leaves half the contrast (MTF50)."""
    if width is None:
        return 0.0
    return min(0.5, math.sqrt(2 * math.log(2)) / (2 * math.pi * max(width, 1e-3)))
