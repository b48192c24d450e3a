"""Homographies between frames: motion of the background."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from freezeframe.motion.flow.estimators import dis_uv, gamma_luma
from freezeframe.motion.flow.interpolation import pixel_grid

Array = NDArray[Any]

_OUTSIDE = 1.0  # gamma-coded difference assigned to points outside the other frame
_TERMINATION = cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT


@dataclass(frozen=True, slots=True, kw_only=True)
class HomographyConfig:
    """Tunables of the registration."""

    min_side: int = 40  # pixels of the shorter side of the coarsest level
    min_contrast: float = 0.01  # gamma-coded standard deviation of a frame
    min_correlation: float = 0.25  # of high-passed frames, before outliers such as players are masked
    min_background_correlation: float = 0.6  # the same after outliers are masked
    levels: int = 5
    finest: bool = False  # refine down to the finest level, whether the coarser ones agree or not
    gauss_filter_size: int = 3  # pixels of the Gaussian before gradients are computed
    # A homography of a finer level may lose so much correlation on the coarser level, plus a fraction of the
    # decorrelation left there: players disturb coarse levels most.
    max_correlation_loss: float = 0.005
    max_dissimilarity_loss: float = 0.05
    min_pixels: int = 64  # overlap; less has correlation 0
    ransac_threshold: float = 1.0  # pixels of flow error of an inlier


_DEFAULT = HomographyConfig()


def estimate_homography(
    source: Tensor,
    target: Tensor,
    *,
    mask: Tensor | None = None,
    start: Tensor | None = None,
    config: HomographyConfig = _DEFAULT,
) -> Tensor | None:
    """Homography H between two frames: target(H p) shows the same point as source(p). Takes no gradient.

    Initialised by phase correlation or by RANSAC on a fast flow, whichever has the smaller residual; refined
    coarse to fine by enhanced correlation (Evangelidis & Psarakis 2008) as long as finer levels agree with
    coarser ones; refined once more without outliers, such as players.

    Args:
        source: [3, H, W] linear RGB.
        target: As `source`.
        mask: [H, W], above 0.5 on the background; None for everywhere.
        start: [3, 3] initial homography in pixels, such as that of `fit_homography`.
        config: Tunables.

    Returns:
        [3, 3] float64 with lower right 1, or None without texture or without correlation.
    """
    a, b = (gamma_luma(frame).cpu().numpy().astype(np.float32) for frame in (source, target))
    if min(a.std(), b.std()) < config.min_contrast:
        return None
    valid = np.full(a.shape, 255, np.uint8) if mask is None else _to_mask(mask)
    initial = _initialise(a, b, valid, config) if start is None else start.double().cpu().numpy()
    registration = _Registration(a, b, config)
    match = registration.refine(valid, initial, levels=config.levels)
    if match.correlation < config.min_correlation:
        return None
    inliers = valid & _inlier_mask(a, b, match.matrix)
    refit = registration.refine(inliers, match.matrix, levels=match.level + 1)
    match = refit if config.finest or refit.correlation >= match.correlation else match
    return torch.from_numpy(match.matrix) if match.correlation >= config.min_background_correlation else None


def fit_homography(
    uv: Tensor, confidence: Tensor, *, step: int = 16, config: HomographyConfig = _DEFAULT
) -> Tensor | None:
    """Homography of the largest part of a flow, by RANSAC on every `step`-th pixel. Takes no gradient.

    Args:
        uv: [2, H, W] pixels.
        confidence: [H, W] in [0, 1]; points below 0.5 are ignored.
        step: Pixels between samples.
        config: Tunables.

    Returns:
        [3, 3] float64, or None with fewer than 16 confident samples or without a consensus.
    """
    x, y = (axis[::step, ::step] for axis in pixel_grid(uv))
    displacement = uv[:, ::step, ::step]
    confident = confidence[::step, ::step] > 0.5
    if int(confident.sum()) < 16:
        return None
    points = torch.stack((x[confident], y[confident]), dim=-1).cpu().numpy()
    ends = points + displacement[:, confident].T.cpu().numpy()
    fitted, _ = cv2.findHomography(points, ends, cv2.RANSAC, config.ransac_threshold, maxIters=500)
    return None if fitted is None else torch.from_numpy(np.asarray(fitted, np.float64))


def homography_to_flow(matrix: Tensor, size: tuple[int, int]) -> Tensor:
    """Flow, [2, H, W] pixels, of a homography [3, 3] on a frame of `size` (H, W)."""
    x, y = pixel_grid(torch.zeros(size, dtype=matrix.dtype, device=matrix.device))
    ends = torch.einsum("ij,jhw->ihw", matrix, torch.stack((x, y, torch.ones_like(x))))
    uv = ends[:2] / ends[2:] - torch.stack((x, y))
    return uv.float()


def _to_mask(mask: Tensor) -> Array:
    return ((mask > 0.5).cpu().numpy() * 255).astype(np.uint8)


def _initialise(a: Array, b: Array, valid: Array, config: HomographyConfig) -> Array:
    candidates = [np.eye(3), _phase_correlation(a, b)]
    luma8 = [(np.clip(image, 0, 1) * 255).astype(np.uint8) for image in (a, b)]
    uv = dis_uv(*luma8, preset="fast")
    consensus = fit_homography(uv, torch.from_numpy(valid / 255.0), config=config)
    if consensus is not None:
        candidates.append(consensus.numpy())
    # The median is that of the background, as long as it fills half of the frame.
    return min(candidates, key=lambda matrix: float(np.median(_difference(a, b, matrix)[valid > 0])))


def _phase_correlation(a: Array, b: Array) -> Array:
    window = cv2.createHanningWindow(a.shape[::-1], cv2.CV_32F)
    (dx, dy), _ = cv2.phaseCorrelate(a, b, window)
    matrix = np.eye(3)
    matrix[:2, 2] = dx, dy
    # Larger translations come from frames with little in common.
    return matrix if abs(dx) < a.shape[1] / 2 and abs(dy) < a.shape[0] / 2 else np.eye(3)


@dataclass(frozen=True, slots=True)
class _Match:
    """Homography of a frame pair, with its correlation at one level (2^level times smaller)."""

    matrix: Array
    correlation: float  # of the high-passed frames
    level: int


@dataclass(frozen=True, slots=True)
class _Registration:
    """Enhanced correlation of two gamma-coded lumas."""

    a: Array  # [H, W]
    b: Array  # [H, W]
    config: HomographyConfig

    def refine(self, valid: Array, initial: Array, *, levels: int) -> _Match:
        """Refine a homography coarse to fine, as long as the finer level agrees with the coarser one.

        Exposures with different blur agree only at scales coarser than the blur: at finer levels the
        homography diverges. The coarser level decides, as it has less noise.
        """
        best = _Match(initial, 0.0, 0)
        for level in reversed(range(levels)):
            if level and min(self.a.shape) * 0.5**level < self.config.min_side:
                continue
            finer = self._refine_level(valid, best.matrix, level)
            if self.config.finest and not finer.correlation:
                return finer
            if self.config.finest or not best.correlation:
                best = finer
                continue
            loss = best.correlation - self._correlation(valid, finer.matrix, level + 1)
            limit = self.config.max_correlation_loss + self.config.max_dissimilarity_loss * (
                1 - best.correlation
            )
            if not finer.correlation or loss > limit:
                break
            best = finer
        return best

    def _refine_level(self, valid: Array, initial: Array, level: int) -> _Match:
        """Enhanced correlation at one level; correlation 0 and the initial homography if it fails."""
        one, other, small_valid = self._downsample(valid, level)
        to_small = _scaling(one.shape[1] / self.a.shape[1], one.shape[0] / self.a.shape[0])
        # OpenCV masks the image that it warps: therefore the source is warped, by the inverse.
        inverse = (to_small @ np.linalg.inv(initial) @ np.linalg.inv(to_small)).astype(np.float32)
        steps = (_TERMINATION, 30 * 2**level, 1e-6)
        size = self.config.gauss_filter_size
        try:
            correlation, warp_matrix = cv2.findTransformECC(
                other, one, inverse / inverse[2, 2], cv2.MOTION_HOMOGRAPHY, steps, small_valid, size
            )
        except cv2.error:
            return _Match(initial, 0.0, level)
        matrix = np.linalg.inv(to_small) @ np.linalg.inv(np.asarray(warp_matrix, np.float64)) @ to_small
        return _Match(matrix / matrix[2, 2], float(correlation), level)

    def _correlation(self, valid: Array, matrix: Array, level: int) -> float:
        """Correlation of the high-passed frames at one level, registered by a full-size homography."""
        one, other, small_valid = (image.astype(np.float32) for image in self._downsample(valid, level))
        to_small = _scaling(one.shape[1] / self.a.shape[1], one.shape[0] / self.a.shape[0])
        small_matrix = to_small @ matrix @ np.linalg.inv(to_small)
        kernel = (self.config.gauss_filter_size, self.config.gauss_filter_size)
        smoothed = [cv2.GaussianBlur(image, kernel, 0) for image in (one, other)]
        size = one.shape[::-1]
        overlap = cv2.warpPerspective(small_valid, small_matrix, size, flags=cv2.INTER_NEAREST) > 0
        warped = cv2.warpPerspective(smoothed[0], small_matrix, size)
        if overlap.sum() < self.config.min_pixels:
            return 0.0
        return float(np.corrcoef(warped[overlap], smoothed[1][overlap])[0, 1])

    def _downsample(self, valid: Array, level: int) -> tuple[Array, Array, Array]:
        one, other = (_high_pass(image, 0.5**level) for image in (self.a, self.b))
        small_valid = cv2.resize(valid, one.shape[::-1], interpolation=cv2.INTER_NEAREST)
        return one, other, _without_border(small_valid)


def _high_pass(image: Array, scale: float) -> Array:
    """A downsampled image less its low-pass, which would dominate the correlation."""
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(small - cv2.GaussianBlur(small, (0, 0), 4))


def _without_border(valid: Array) -> Array:
    """The mask without its border, where the low-pass depends on the border extrapolation."""
    width = min(12, *(side // 16 for side in valid.shape))
    inner = np.zeros_like(valid)
    inner[width:-width, width:-width] = valid[width:-width, width:-width]
    return inner


def _scaling(x: float, y: float) -> Array:
    """[3, 3] full-size pixel centres to those of an image x and y times as large."""
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])


def _inlier_mask(a: Array, b: Array, matrix: Array) -> Array:
    """[H, W] uint8, 255 where the warped target differs from the source by at most about 3 medians."""
    difference = _difference(a, b, matrix)
    median = float(np.median(difference[difference < _OUTSIDE])) if (difference < _OUTSIDE).any() else 0.0
    return ((difference < 3 * median + 0.01) * 255).astype(np.uint8)


def _difference(a: Array, b: Array, matrix: Array) -> Array:
    """[H, W] smoothed absolute difference between the source and the warped target."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpPerspective(
        b, matrix, a.shape[::-1], flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=-1
    )
    difference = cv2.GaussianBlur(np.abs(a - warped), (0, 0), 2)
    return np.where(warped >= 0, difference, _OUTSIDE)
