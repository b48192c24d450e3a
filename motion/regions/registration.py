"""Motion of the background between consecutive lumas, from corners."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .region_map import Array, project

_STILL = 0.1  # pixels that no corner of the frame moves while the camera is still
_EXACT = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 0.01)


@dataclass(frozen=True, slots=True, kw_only=True)
class CornerConfig:
    """Tunables of the registration."""

    corners: int = 240
    quality: float = 0.005  # of the weakest corner, relative to the strongest
    distance: int = 8  # pixels between corners of the image at half its size
    window: int = 15  # pixels of the patches that are tracked
    levels: int = 4
    ransac_threshold: float = 0.7  # pixels of an inlier
    min_homography: int = 40  # inliers; fewer allow a similarity only
    min_similarity: int = 8  # inliers; fewer allow no estimate
    min_fraction: float = 0.3  # of the corners that agree
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
    starts, ends = _tracked_corners(source, target, config)
    matrix = _fit(starts, ends, config)
    if matrix is None:
        alike = float(cv2.absdiff(source, target).mean()) < config.same
        return np.eye(3) if alike else None
    return np.eye(3) if largest_shift(matrix, source.shape) < _STILL else matrix


def largest_shift(matrix: Array, size: tuple[int, ...]) -> float:
    """Pixels that the corners of a frame of `size` (H, W) move at most."""
    h, w = size
    corners = np.array([[0.0, 0], [w, 0], [0, h], [w, h]])
    return float(np.linalg.norm(project(matrix, corners) - corners, axis=1).max())


def _tracked_corners(source: Array, target: Array, config: CornerConfig) -> tuple[Array, Array]:
    half = cv2.resize(source, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    corners = cv2.goodFeaturesToTrack(half, config.corners, config.quality, config.distance)
    if corners is None:
        return np.zeros((0, 2)), np.zeros((0, 2))
    starts = np.asarray(corners, np.float32) * 2 + 0.5
    side = (config.window, config.window)
    ends, found, _ = cv2.calcOpticalFlowPyrLK(
        source, target, starts, starts.copy(), winSize=side, maxLevel=config.levels, criteria=_EXACT
    )
    kept = found.ravel() == 1
    return starts.reshape(-1, 2)[kept].astype(np.float64), ends.reshape(-1, 2)[kept].astype(np.float64)


def _fit(starts: Array, ends: Array, config: CornerConfig) -> Array | None:
    """The model with the most parameters that the number of inliers allows."""
    if len(starts) < config.min_similarity:
        return None
    similarity, inliers = cv2.estimateAffinePartial2D(
        starts, ends, method=cv2.RANSAC, ransacReprojThreshold=config.ransac_threshold
    )
    matrix = None if similarity is None else np.vstack([similarity, [0, 0, 1]])
    if len(starts) >= config.min_homography:
        homography, more = cv2.findHomography(starts, ends, cv2.RANSAC, config.ransac_threshold)
        if homography is not None and more.sum() >= max(config.min_homography, 1.05 * inliers.sum()):
            matrix, inliers = homography, more
    enough = max(config.min_similarity, config.min_fraction * len(starts))
    if matrix is None or inliers is None or inliers.sum() < enough:
        return None
    return np.asarray(matrix / matrix[2, 2], np.float64)
