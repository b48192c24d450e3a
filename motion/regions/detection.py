"""Detections: connected parts of a frame that the range of the background does not explain."""

from __future__ import annotations

from collections.abc import Sequence
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
    max_gap: int = 16
    max_count: int = 64  # detections per frame, the strongest


_DEFAULT = DetectionConfig()


@dataclass(slots=True)
class _Part:
    box: Box
    mask: Array  # bool, of the box
    mass: float  # code values times pixels outside the range


def detect(
    frame: Array,
    lower: Array,
    upper: Array,
    *,
    index: int,
    scale: float,
    config: DetectionConfig = _DEFAULT,
) -> list[Detection]:
    """Find what is darker than `lower` or brighter than `upper`, by thresholds with hysteresis.

    Args:
        frame: [H, W] uint8.
        lower: As `frame`.
        upper: As `frame`.
        index: Number of the frame.
        scale: Pixels of the full frame per pixel.
        config: Tunables.
    """
    excess = cv2.max(cv2.subtract(frame, upper), cv2.subtract(lower, frame))
    weak = cv2.compare(excess, 0, cv2.CMP_GT)
    if cv2.countNonZero(weak) > config.max_frame_fraction * weak.size:
        return []
    parts = _merge(_parts(np.asarray(excess), np.asarray(weak), config), config)
    parts = sorted(parts, key=lambda part: -part.mass)[: config.max_count]
    limit = config.max_area_fraction * frame.size
    kept = [part for part in parts if config.min_area <= part.mask.sum() <= limit]
    return [_measure(part, frame, lower, upper, index=index, scale=scale) for part in kept]


def _parts(excess: Array, weak: Array, config: DetectionConfig) -> list[_Part]:
    """Connected components with a seed; gaps of two pixels connect."""
    seeds = excess >= config.seed
    if not seeds.any():
        return []
    joined = cv2.dilate(weak, np.ones((3, 3), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(joined, connectivity=8, ltype=cv2.CV_32S)
    parts = []
    for label in np.unique(labels[seeds]):
        left, top, width, height, _ = (int(value) for value in stats[label])
        window = slice(top, top + height), slice(left, left + width)
        mask = (labels[window] == label) & (weak[window] > 0)
        mass = float(excess[window][mask].sum())
        parts.append(_Part(Box(left=left, top=top, right=left + width, bottom=top + height), mask, mass))
    return sorted(parts, key=lambda part: -part.mass)[: 4 * config.max_count]


def _merge(parts: list[_Part], config: DetectionConfig) -> list[_Part]:
    """Join parts that are close to each other relative to their size."""
    merged: list[_Part] = []
    for part in parts:
        current = part
        while (near := _nearest(current, merged, config)) is not None:
            merged.remove(near)
            current = _join(near, current)
        merged.append(current)
    return merged


def _nearest(part: _Part, others: Sequence[_Part], config: DetectionConfig) -> _Part | None:
    side = max(part.box.width, part.box.height)
    for other in others:
        smaller = min(side, max(other.box.width, other.box.height))
        if part.box.gap(other.box) <= min(max(config.gap, config.gap_fraction * smaller), config.max_gap) - 2:
            return other
    return None


def _join(a: _Part, b: _Part) -> _Part:
    box = a.box.union(b.box)
    mask = np.zeros((box.height, box.width), bool)
    for part in (a, b):
        top, left = part.box.top - box.top, part.box.left - box.left
        mask[top : top + part.box.height, left : left + part.box.width] |= part.mask
    return _Part(box, mask, a.mass + b.mass)


def _measure(part: _Part, frame: Array, lower: Array, upper: Array, *, index: int, scale: float) -> Detection:
    """Box, centroid, area and contrast, in pixels of the full frame.

    A blurred silhouette weighs by its difference from the background: its centroid is the mean position
    during the exposure.
    """
    box = part.box
    window = slice(box.top, box.bottom), slice(box.left, box.right)
    expected = (lower[window].astype(np.float32) + upper[window]) / 2
    difference = (frame[window] - expected) * part.mask
    weight = np.abs(difference) + 1e-3 * part.mask
    x = float((weight.sum(0) * np.arange(box.width)).sum() / weight.sum()) + box.left
    y = float((weight.sum(1) * np.arange(box.height)).sum() / weight.sum()) + box.top
    area = float(part.mask.sum())
    half_width = ((upper[window].astype(np.float32) - lower[window]) * part.mask).sum() / 2
    return Detection(
        index=index,
        box=_tight(part, scale),
        centre=((x + 0.5) * scale - 0.5, (y + 0.5) * scale - 0.5),
        area=area * scale**2,
        contrast=float(weight.sum() / area),
        significance=float(weight.sum() / max(half_width, area)),
    )


def _tight(part: _Part, scale: float) -> Box:
    rows, columns = np.flatnonzero(part.mask.any(1)), np.flatnonzero(part.mask.any(0))
    return Box(
        left=int((part.box.left + columns[0]) * scale),
        top=int((part.box.top + rows[0]) * scale),
        right=int(np.ceil((part.box.left + columns[-1] + 1) * scale)),
        bottom=int(np.ceil((part.box.top + rows[-1] + 1) * scale)),
    )
