"""Motion of the background between consecutive lumas, from corners."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from .region_map import Array, project

_EXACT = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 0.01)


@dataclass(frozen=True, slots=True, kw_only=True)
class CornerConfig:
    """Tunables of the registration."""

    cells: int = 20  # along the longer side: each cell has one corner, so that large areas have the most
    min_cell: int = 6  # pixels of the image at half its size
    min_strength: float = 1e-5  # of a corner: smaller eigenvalue of the structure tensor
    window: int = 15  # pixels of the patches that are tracked
    levels: int = 4
    ransac_threshold: float = 0.7  # pixels of an inlier
    min_homography: int = 40  # inliers; fewer allow a similarity only
    min_similarity: int = 8  # inliers; fewer allow no estimate
    min_fraction: float = 0.2  # of the corners that agree
    parallax: float = 4.0  # times the threshold of an inlier where too few agree
    rest: float = 0.2  # pixels that a corner moves at most while the camera is still
    resting_fraction: float = 0.6  # of the inliers of a motion: as many resting corners are a still camera
    bias: float = 0.04  # pixels of mean motion of the resting corners of a still camera
    same: float = 3.0  # code values of mean difference below which frames without corners are the same


_DEFAULT = CornerConfig()


def register(source: Array, target: Array, *, config: CornerConfig = _DEFAULT) -> Array | None:
    """Homography H, [3, 3] float64: target(H p) shows the same background as source(p).

    Exactly the identity while the camera is still.

    Args:
        source: [H, W] uint8.
        target: As `source`.
        config: Tunables.

    Returns:
        None where the frames have nothing in common.
    """
    starts, ends = _track(_corners(source, config), source, target, config)
    moves = ends - starts
    resting = np.linalg.norm(moves, axis=1) < config.rest
    matrix, inliers = _fit(starts, ends, config)
    enough = max(config.min_similarity, config.min_fraction * len(starts))
    many = resting.sum() >= max(enough, config.resting_fraction * inliers)
    if many and np.linalg.norm(moves[resting].mean(0)) < config.bias:
        return np.eye(3)
    if matrix is None or inliers < enough:
        # Parallax: the plane that fits best.
        loose = replace(config, ransac_threshold=config.parallax * config.ransac_threshold)
        matrix, inliers = _fit(starts, ends, loose)
    if matrix is not None and inliers >= enough and _is_plausible(matrix, source.shape):
        return matrix
    alike = float(cv2.absdiff(source, target).mean()) < config.same
    return np.eye(3) if alike else None


def largest_shift(matrix: Array, size: tuple[int, ...]) -> float:
    """Pixels that the corners of a frame of `size` (H, W) move at most."""
    h, w = size
    corners = np.array([[0.0, 0], [w, 0], [0, h], [w, h]])
    return float(np.linalg.norm(project(matrix, corners) - corners, axis=1).max())


def _is_plausible(matrix: Array, size: tuple[int, ...]) -> bool:
    """Whether the frames overlap and have about the same scale."""
    return 0.5 < float(np.linalg.det(matrix[:2, :2])) < 2 and largest_shift(matrix, size) < max(size)


def _corners(image: Array, config: CornerConfig) -> Array:
    """[N, 1, 2] the strongest corner of each cell of a grid."""
    half = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    strength = np.asarray(cv2.cornerMinEigenVal(half, 5))
    side = max(config.min_cell, max(half.shape) // config.cells)
    rows, columns = half.shape[0] // side, half.shape[1] // side
    cells = strength[: rows * side, : columns * side].reshape(rows, side, columns, side)
    flat = cells.transpose(0, 2, 1, 3).reshape(rows * columns, side * side)
    best = flat.argmax(1)
    number = np.flatnonzero(flat[np.arange(len(flat)), best] > config.min_strength)
    y = number // columns * side + best[number] // side
    x = number % columns * side + best[number] % side
    return np.stack((x, y), axis=1).astype(np.float32).reshape(-1, 1, 2) * 2 + np.float32(0.5)


def _track(starts: Array, source: Array, target: Array, config: CornerConfig) -> tuple[Array, Array]:
    """[N, 2] positions in both images, of the corners that were found."""
    if len(starts) == 0:
        return np.zeros((0, 2)), np.zeros((0, 2))
    side = (config.window, config.window)
    ends, found, _ = cv2.calcOpticalFlowPyrLK(
        source, target, starts, starts.copy(), winSize=side, maxLevel=config.levels, criteria=_EXACT
    )
    kept = found.ravel() == 1
    return starts.reshape(-1, 2)[kept].astype(np.float64), ends.reshape(-1, 2)[kept].astype(np.float64)


def _fit(starts: Array, ends: Array, config: CornerConfig) -> tuple[Array | None, int]:
    """The model with the most parameters that the number of inliers allows, and that number."""
    if len(starts) < config.min_similarity:
        return None, 0
    threshold = config.ransac_threshold
    similarity, kept = cv2.estimateAffinePartial2D(starts, ends, ransacReprojThreshold=threshold)
    if not kept.any():  # points that all coincide
        return None, 0
    matrix, inliers = np.vstack([similarity, [0, 0, 1]]), int(kept.sum())
    if len(starts) >= config.min_homography:
        homography, kept = cv2.findHomography(starts, ends, cv2.RANSAC, threshold, maxIters=500)
        if homography is not None and kept.sum() >= max(config.min_homography, 1.05 * inliers):
            matrix, inliers = np.asarray(homography / homography[2, 2], np.float64), int(kept.sum())
    return matrix, inliers
