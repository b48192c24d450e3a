"""Diagnosis of one frame: length, direction and cause of its blur; noise; blockiness.

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

from freezeframe.data.types import Cause
from freezeframe.motion.flow.estimators import gamma_luma

from .edge_width import Edges, blur_from_edge_widths, find_edges, join_edges

Array = NDArray[Any]

_MIN_SIDE = 3  # pixels of the shorter side: size of the kernel of `noise_level`


@dataclass(frozen=True, slots=True, kw_only=True)
class DiagnosisConfig:
    """Thresholds of the diagnosis."""

    min_blur: float = 1.0  # pixels; shorter blur is within that of a lens and a codec
    min_blind_blur: float = 3.0  # pixels; without motion, scenes alone give as much anisotropy of edges
    defocus_sigma: float = 1.6  # pixels: standard deviation of edges out of focus
    band_divisor: int = 3  # of high frames, one row of so many is measured
    min_band: int = 56  # rows of a band; lower frames are measured entirely
    top_fraction: float = 0.02  # the blur of an area is the quantile that this fraction of it exceeds


_DEFAULT = DiagnosisConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """One rectangle of a frame."""

    blur: float  # pixels: length of motion blur that 2 % of the region exceed
    direction: float  # radians in [0, pi), 0 along rows, increasing downwards
    defocus: float  # pixels: standard deviation of isotropic blur
    cause: Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Diagnosis of one frame."""

    blur: float  # pixels: length of motion blur that 2 % of the frame exceed
    direction: float  # radians in [0, pi), of that blur
    defocus: float  # pixels: standard deviation of isotropic blur
    cause: Cause  # of most of the blur
    sharpness: float  # cycles per pixel: MTF50 of the median edge, at most 0.5
    noise: float  # standard deviation of gamma-coded luma, 0 to 1
    blockiness: float  # excess of steps at block borders over those inside, relative; 0 without blocks
    regions: tuple[tuple[Region, ...], ...]  # rows of regions

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists, for JSON."""
        return asdict(self)


def diagnose(
    image: Tensor,
    *,
    blur: Tensor | None = None,
    independent_motion: Tensor | None = None,
    grid: tuple[int, int] = (6, 10),
    config: DiagnosisConfig = _DEFAULT,
) -> Diagnosis:
    """Diagnose blur, noise and compression of a frame.

    Args:
        image: [3, H, W] linear RGB.
        blur: [2, H, W] pixels: blur vectors, `Motion.blur`. None estimates one vector for the whole frame
            from the widths of its edges.
        independent_motion: [H, W] in [0, 1]: mask of independent motion; None is all 0.
        grid: Rows and columns of regions; fewer where the frame has fewer pixels.
        config: Thresholds.
    """
    return diagnose_luma(
        gamma_luma(image).cpu().numpy(),
        blur=blur,
        independent_motion=independent_motion,
        grid=grid,
        config=config,
    )


def diagnose_luma(
    luma: Array,
    *,
    blur: Tensor | None = None,
    independent_motion: Tensor | None = None,
    grid: tuple[int, int] = (6, 10),
    config: DiagnosisConfig = _DEFAULT,
) -> Diagnosis:
    """`diagnose` for the gamma-coded luma of a frame, [H, W] in [0, 1].

    Args:
        luma: As that of `gamma_luma`.
        blur: [2, h, w] pixels of the frame; the grid of h x w points spans the frame and may be coarser.
        independent_motion: [h, w], on the grid of `blur`.
        grid: As in `diagnose`.
        config: Thresholds.
    """
    bands = list(_bands(luma.shape[0], grid[0], config))
    sample = luma if len(bands) == 1 else np.concatenate([luma[band] for band in bands])
    noise = noise_level(sample)
    edges = join_edges([find_edges(luma[band], noise=noise).shift(band.start) for band in bands])
    vectors = _blur_from_edges(edges, config) if blur is None else blur.cpu().numpy()
    mover_mask = np.zeros(vectors.shape[1:], np.float32)
    if independent_motion is not None:
        mover_mask = independent_motion.cpu().numpy()
    # A sample per four pixels.
    step = max(1, round(4 * vectors.shape[2] / luma.shape[1]))
    frame = _Frame(_edges_by_region(edges, luma.shape, grid), vectors, mover_mask, step, config)
    regions = frame.regions()
    length, direction = _dominant_blur(vectors, step, config)
    return Diagnosis(
        blur=length,
        direction=direction,
        defocus=_defocus(edges, length, direction, config),
        cause=_main_cause(regions),
        sharpness=_mtf50(edges.width_quantile()),
        noise=noise,
        blockiness=blockiness(sample),
        regions=regions,
    )


def noise_level(luma: Array) -> float:
    """Standard deviation of the noise in [H, W] gamma-coded luma, 0 to 1.

    Immerkaer's (1996) second difference vanishes on ramps and straight edges; its smallest block means are
    those of noise alone. Nearly black and white blocks are left out, as clipping removes noise.
    """
    if min(luma.shape) < _MIN_SIDE:
        return 0.0
    encoded = luma.astype(np.float32)
    kernel = np.outer([1, -2, 1], [1, -2, 1]).astype(np.float32)
    difference = np.abs(cv2.filter2D(encoded, cv2.CV_32F, kernel)[1:-1, 1:-1])
    roughness, brightness = _block_means(difference), _block_means(encoded[1:-1, 1:-1])
    unclipped = roughness[(brightness > 0.02) & (brightness < 0.98)]
    low = np.quantile(unclipped if len(unclipped) > 20 else roughness.ravel(), 0.05)
    # |N(0, 1)| has mean sqrt(2 / pi), the kernel gain 6; the 5 % quantile is below the mean by a fourteenth.
    return float(low * math.sqrt(math.pi / 2) / 6 * 1.07)


def blockiness(luma: Array) -> float:
    """Excess of steps across a grid of eight pixels over those elsewhere, relative; 0 without blocks.

    The phase of the grid is estimated, as files may be cropped.
    """
    horizontal = np.abs(np.diff(luma.astype(np.float32), 2, axis=1)).mean(0)
    vertical = np.abs(np.diff(luma.astype(np.float32), 2, axis=0)).mean(1)
    return max(0.0, (_grid_excess(horizontal) + _grid_excess(vertical)) / 2)


def _grid_excess(differences: Array) -> float:
    by_phase = differences[: len(differences) // 8 * 8].reshape(-1, 8)
    if not len(by_phase):
        return 0.0
    phases = np.median(by_phase, axis=0)
    # A step between two pixels is part of two second differences.
    pairs = phases + np.roll(phases, -1)
    return float(pairs.max() / max(np.median(pairs), 1e-6) - 1)


def _block_means(values: Array, side: int = 16) -> Array:
    side = min(side, *values.shape)
    rows, columns = (size // side * side for size in values.shape)
    blocks = values[:rows, :columns].reshape(rows // side, side, columns // side, side)
    return np.asarray(blocks.mean((1, 3)))


def _bands(height: int, count: int, config: DiagnosisConfig) -> Iterator[slice]:
    """Rows whose edges, noise and blocks are measured: of a high frame, the middle of each row of regions.

    Bands are multiples of eight rows and begin at one, so that together they keep the grid of a codec.
    """
    step = height // count
    rows = step // config.band_divisor // 8 * 8
    if rows < config.min_band:
        yield slice(0, height)
        return
    for k in range(count):
        start = (k * step + (step - rows) // 2) // 8 * 8
        yield slice(start, start + rows)


def _edges_by_region(edges: Edges, size: tuple[int, ...], grid: tuple[int, int]) -> list[list[Edges]]:
    """The edges of each rectangle of a grid, by row and column; fewer rectangles than pixels."""
    rows, columns = (min(parts, side) for parts, side in zip(grid, size, strict=True))
    row, column = edges.y * rows // size[0], edges.x * columns // size[1]
    number = row * columns + column
    order = np.argsort(number, kind="stable")
    ends = np.searchsorted(number[order], np.arange(rows * columns + 1))
    parts = [edges.select(order[a:b]) for a, b in itertools.pairwise(ends)]
    return [parts[k : k + columns] for k in range(0, len(parts), columns)]


def _part(size: int, number: int, parts: int) -> slice:
    """The samples of part `number` of an axis with `size` of them: at least one."""
    first = min(-(-size * number // parts), size - 1)
    return slice(first, max(first + 1, -(-size * (number + 1) // parts)))


def _blur_from_edges(edges: Edges, config: DiagnosisConfig) -> Array:
    length, direction = blur_from_edge_widths(edges)
    if length < config.min_blind_blur:
        length = 0.0
    vector = np.array([math.cos(direction), math.sin(direction)], np.float32) * length
    return vector[:, None, None]


def _dominant_blur(vectors: Array, step: int, config: DiagnosisConfig) -> tuple[float, float]:
    """Upper quantile of the blur length, and mean direction of the vectors above it; of each `step`-th."""
    x, y = vectors[0, ::step, ::step].ravel(), vectors[1, ::step, ::step].ravel()
    length = np.hypot(x, y)
    limit = np.quantile(length, 1 - config.top_fraction)
    doubled_angle = ((x + 1j * y) ** 2)[length >= limit].mean()  # squared: opposite vectors are one direction
    return float(limit), float(np.angle(doubled_angle) / 2 % np.pi)


@dataclass(frozen=True, slots=True)
class _Frame:
    """Edges and motion of a frame, for the diagnosis of its regions."""

    edges: list[list[Edges]]  # by row and column of the regions
    vectors: Array  # [2, h, w] pixels of the frame
    mover_mask: Array  # [h, w] in [0, 1]
    step: int  # between the samples of a quantile
    config: DiagnosisConfig

    def regions(self) -> tuple[tuple[Region, ...], ...]:
        height, width = self.vectors.shape[1:]
        return tuple(
            tuple(
                self._region(edges, _part(height, i, len(self.edges)), _part(width, j, len(row)))
                for j, edges in enumerate(row)
            )
            for i, row in enumerate(self.edges)
        )

    def _region(self, edges: Edges, rows: slice, columns: slice) -> Region:
        length, direction = _dominant_blur(self.vectors[:, rows, columns], self.step, self.config)
        defocus = _defocus(edges, length, direction, self.config)
        strongly_blurred = np.hypot(*self.vectors[:, rows, columns]) >= 0.9 * length
        in_mover = self.mover_mask[rows, columns][strongly_blurred].mean() > 0.5
        cause = _cause(length, defocus, moving="object" if in_mover else "camera", config=self.config)
        return Region(blur=length, direction=direction, defocus=defocus, cause=cause)


def _defocus(edges: Edges, length: float, direction: float, config: DiagnosisConfig) -> float:
    """Median width of the edges that motion does not widen: those parallel to it."""
    unblurred = edges.select_by_normal(direction + math.pi / 2) if length >= config.min_blur else edges
    return unblurred.width_quantile() or 0.0


def _cause(length: float, defocus: float, *, moving: Cause, config: DiagnosisConfig) -> Cause:
    # A uniform distribution of length L has the standard deviation L / sqrt(12).
    if length >= config.min_blur and (defocus < config.defocus_sigma or length / math.sqrt(12) > defocus):
        return moving
    return "defocus" if defocus >= config.defocus_sigma else "none"


def _main_cause(regions: tuple[tuple[Region, ...], ...]) -> Cause:
    flat = [region for row in regions for region in row]
    defocused = [region for region in flat if region.cause == "defocus"]
    moving = [region for region in flat if region.cause in ("camera", "object")]
    # Most images have defocused regions; motion blur in a single region is significant.
    if 2 * len(defocused) > len(flat) and len(defocused) >= len(moving):
        return "defocus"
    by_object = sum(region.blur for region in moving if region.cause == "object")
    if not moving:
        return "none"
    return "object" if 2 * by_object > sum(region.blur for region in moving) else "camera"


def _mtf50(width: float | None) -> float:
    """Spatial frequency, cycles per pixel, at which a Gaussian of `width` pixels has half the contrast."""
    if width is None:
        return 0.0
    return min(0.5, math.sqrt(2 * math.log(2)) / (2 * math.pi * max(width, 1e-3)))
