"""The movers of a clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from freezeframe.data.types import Box

Array = NDArray[Any]
Point = tuple[float, float]  # (x, y) pixels of the full frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """A mover in one frame."""

    index: int  # number of the frame
    box: Box
    centre: Point  # centroid of the blurred silhouette
    area: float  # pixels of the blurred silhouette
    contrast: float  # code values: mean absolute difference from the background
    significance: float  # contrast over half the width of the background's range
    predicted: bool = False  # not seen in this frame: interpolated along the track


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """A mover in consecutive frames.

    `background[i]` is the position, in the frame of detection i + 1, of the background behind the centre of
    detection i.
    """

    number: int
    detections: tuple[Detection, ...]
    background: tuple[Point, ...]

    @property
    def span(self) -> range:
        """Numbers of the frames."""
        return range(self.detections[0].index, self.detections[-1].index + 1)

    def at(self, index: int) -> Detection:
        """The detection in frame `index`.

        Raises:
            ValueError: The track does not cover the frame.
        """
        return self.detections[self._offset(index)]

    def velocity(self, index: int) -> Point:
        """Pixels per frame interval relative to the background: mean of the steps before and after."""
        at = self._offset(index)
        steps = [self.step(k) for k in (at - 1, at) if 0 <= k < len(self.background)]
        x, y = np.mean(steps, axis=0).tolist()
        return x, y

    def step(self, number: int) -> Point:
        """Motion relative to the background from detection `number` to the next, in pixels."""
        (x, y), (x0, y0) = self.detections[number + 1].centre, self.background[number]
        return x - x0, y - y0

    def _offset(self, index: int) -> int:
        if index not in self.span:
            raise ValueError(f"track {self.number} covers the frames {self.span}, not frame {index}")
        return index - self.span.start


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionMap:
    """Motion of the camera, and the movers of a clip."""

    camera: tuple[Tensor | None, ...]  # step k: [3, 3] float64 homography from frame k to k + 1; None at cuts
    tracks: tuple[Track, ...]

    def tracks_at(self, index: int) -> tuple[Track, ...]:
        """The tracks that cover frame `index`."""
        return tuple(track for track in self.tracks if index in track.span)


def project(matrix: Array, points: Array) -> Array:
    """Apply a homography [3, 3] to [N, 2] points."""
    homogeneous = points @ matrix[:, :2].T + matrix[:, 2]
    return np.asarray(homogeneous[:, :2] / homogeneous[:, 2:])
