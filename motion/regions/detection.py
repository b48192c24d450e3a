"""Detections: connected parts of a frame that the range of the background does not explain."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from freezeframe.data.types import Box

from .region_map import Array, Detection


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionConfig:
    """Tunables of the detection. Lengths and areas in pixels of the reduced frame."""

    seed: int = 5  # code values outside the range of the background, at least once per detection
    min_area: int = 4
    max_area_fraction: float = 0.12  # of the frame: larger parts are no small movers
    max_frame_fraction: float = 0.25  # of the frame: more unexplained pixels are no movers, but a flash
    gap: int = 3  # pixels between parts of one mover
    gap_fraction: float = 0.3  # the same, relative to the smaller part
    max_gap: int = 16  # the same, at most
    max_parts: int = 160  # per frame before parts of one mover are joined, the strongest
    max_count: int = 64  # detections per frame, the strongest


_DEFAULT = DetectionConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unexplained:
    """A frame, and the part of it that is outside the range of the background. [H, W] uint8 each."""

    frame: Array
    lower: Array
    upper: Array
    excess: Array  # code values outside the range

    @classmethod
    def of(cls, frame: Array, lower: Array, upper: Array) -> Unexplained:
        """What is darker than `lower` or brighter than `upper`."""
        excess = cv2.max(cv2.subtract(frame, upper), cv2.subtract(lower, frame))
        return cls(frame=frame, lower=lower, upper=upper, excess=np.asarray(excess))


def detect(
    found: Unexplained, *, index: int, scale: float, config: DetectionConfig = _DEFAULT
) -> list[Detection]:
    """Movers in a frame, by thresholds with hysteresis and connected components.

    Args:
        found: Frame and background.
        index: Number of the frame.
        scale: Pixels of the full frame per pixel.
        config: Tunables.
    """
    count = cv2.countNonZero(found.excess) + 1
    if count == 1 or count > config.max_frame_fraction * found.excess.size:
        return []
    labels, boxes, numbers = _parts(found.excess, config)
    groups, boxes = _group(boxes, config)
    group_of = np.full(count, -1)  # there are no more labels than pixels and a background
    group_of[numbers] = groups
    detections = []
    for group, edges in enumerate(boxes.tolist()):
        window = slice(edges[1], edges[3]), slice(edges[0], edges[2])
        mask = (group_of[labels[window]] == group) & (found.excess[window] > 0)
        if config.min_area <= mask.sum() <= config.max_area_fraction * found.excess.size:
            detections.append(_measure(found, mask, (edges[0], edges[1]), index=index, scale=scale))
    detections.sort(key=lambda detection: -detection.area * detection.contrast)
    return detections[: config.max_count]


def _parts(excess: Array, config: DetectionConfig) -> tuple[Array, Array, Array]:
    """Connected components with a seed; gaps of two pixels connect.

    Returns:
        Labels [H, W], boxes [N, 4] as left, top, right, bottom, and the label of each box, strongest first.
    """
    joined = cv2.dilate(excess, np.ones((3, 3), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStatsWithAlgorithm(
        joined,
        8,
        cv2.CV_16U,
        cv2.CCL_SPAGHETTI,  # the fastest
    )
    outside = np.flatnonzero(excess)
    label, value = labels.ravel()[outside], excess.ravel()[outside]
    mass = np.bincount(label, value, count)
    mass[np.bincount(label, value >= config.seed, count) == 0] = 0
    numbers = np.argsort(-mass)[: min(config.max_parts, np.count_nonzero(mass))]
    left, top, width, height = stats[numbers, :4].T
    return labels, np.stack((left, top, left + width, top + height), axis=1), numbers


def _group(boxes: Array, config: DetectionConfig) -> tuple[Array, Array]:
    """Join boxes that are close to each other relative to their size, until none is.

    Returns:
        Number of the group of each box, and the boxes of the groups, [M, 4].
    """
    groups = np.arange(len(boxes))
    while True:
        joined = _connected(_near(boxes, config))
        count = int(joined.max(initial=-1)) + 1
        if count == len(boxes):
            return groups, boxes
        groups = joined[groups]
        members = [boxes[joined == number] for number in range(count)]
        boxes = np.array([[*box[:, :2].min(0), *box[:, 2:].max(0)] for box in members])


def _near(boxes: Array, config: DetectionConfig) -> Array:
    """[N, N] whether two boxes may be parts of one mover."""
    low, high = boxes[:, :2], boxes[:, 2:]
    gaps = (np.maximum(low[:, None], low) - np.minimum(high[:, None], high)).max(-1)
    side = (high - low).max(-1)
    allowed = np.clip(config.gap_fraction * np.minimum(side[:, None], side), config.gap, config.max_gap)
    # The boxes were dilated by a pixel.
    return np.asarray(gaps <= allowed - 2)


def _connected(near: Array) -> Array:
    """Number of the connected component of each node."""
    lowest = np.arange(len(near))
    while True:
        least = np.where(near, lowest, len(near)).min(axis=1, initial=len(near))
        if np.array_equal(least, lowest):
            return np.asarray(np.unique(lowest, return_inverse=True)[1])
        lowest = least


def _measure(
    found: Unexplained, mask: Array, origin: tuple[int, int], *, index: int, scale: float
) -> Detection:
    """Box, centroid, area and contrast, in pixels of the full frame.

    A blurred silhouette weighs by its difference from the background: its centroid is the mean position
    during the exposure.
    """
    left, top = origin
    window = slice(top, top + mask.shape[0]), slice(left, left + mask.shape[1])
    lower, upper = found.lower[window].astype(np.float32), found.upper[window].astype(np.float32)
    weight = np.abs(found.frame[window] - (lower + upper) / 2) * mask + 1e-3 * mask
    columns, rows = weight.sum(0), weight.sum(1)
    x = float(columns @ np.arange(len(columns)) / columns.sum()) + left
    y = float(rows @ np.arange(len(rows)) / rows.sum()) + top
    area, contrast = float(mask.sum()), float(columns.sum())
    return Detection(
        index=index,
        box=_tight(mask, origin, scale),
        centre=((x + 0.5) * scale - 0.5, (y + 0.5) * scale - 0.5),
        area=area * scale**2,
        contrast=contrast / area,
        significance=contrast / max(float(((upper - lower) * mask).sum()) / 2, area),
    )


def _tight(mask: Array, origin: tuple[int, int], scale: float) -> Box:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    left, top = origin
    return Box(
        left=int((left + columns[0]) * scale),
        top=int((top + rows[0]) * scale),
        right=int(np.ceil((left + columns[-1] + 1) * scale)),
        bottom=int(np.ceil((top + rows[-1] + 1) * scale)),
    )
