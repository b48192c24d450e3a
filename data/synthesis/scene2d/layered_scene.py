"""Rendered scenes whose every frame, exposure and motion is known exactly.

A scene is a stack of flat pictures, each carried over the frame by a homography that depends on time. Time
counts frame intervals. Light is averaged over the open shutter, and only then clipped at white, as a sensor
does: a highlight brighter than white leaves a white trail.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from freezeframe.data.blur.operator import integrate_exposure

Array = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]  # [3, 3] homography
HomographyFunction = Callable[[float], Matrix]  # time in frame intervals -> where things are

_MIN_SUBFRAMES = 9  # sub-frames of an exposure, however little moves
_PATH_SEGMENTS = 8  # parts of an exposure whose lengths are added up to that of a path


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A flat picture with soft edges, and its way over the frame.

    `texture` must hold no detail finer than a frame's pixel can: reading does not smooth.
    """

    texture: Array  # [h, w, 4] linear RGB times cover, and cover in [0, 1]
    homography: HomographyFunction  # texture pixel -> frame pixel
    mover: bool = False  # moves otherwise than the camera
    mirrored: bool = False  # mirrored beyond its border, else nothing is there
    interpolation: int = cv2.INTER_LINEAR  # OpenCV's kernel between texture pixels

    def corners(self, t: float) -> Matrix:
        """[4, 2] where the corners of the picture are in the frame."""
        h, w = self.texture.shape[:2]
        return _transform(self.homography(t), np.array([[0.0, 0], [w - 1, 0], [0, h - 1], [w - 1, h - 1]]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Layers from back to front, seen through a frame of `size` (height, width)."""

    layers: tuple[Layer, ...]
    size: tuple[int, int]

    def sharp(self, t: float, *, readout: float = 0.0) -> Tensor:
        """What an infinitely short exposure shows. [3, H, W] linear RGB in [0, 1].

        With a rolling shutter, each row at the middle of its own exposure; `readout` as for `blurred`.
        """
        if readout == 0:
            return self.radiance(t).clamp_(0, 1)
        return self._rolling_shutter(t, shutter=0.0, readout=readout).clamp_(0, 1)

    def blurred(self, t: float, *, shutter: float, readout: float = 0.0) -> Tensor:
        """What an exposure of `shutter` frame intervals, centred on `t`, shows. [3, H, W] linear RGB.

        A rolling shutter exposes the last row `readout` intervals after the first, the middle one at `t`.
        """
        if not 0 < shutter <= 1:
            raise ValueError(f"shutter must lie in (0, 1], not {shutter}")
        if readout > 0:
            return self._rolling_shutter(t, shutter=shutter, readout=readout).clamp_(0, 1)
        count = self.subframes(t, shutter=shutter)
        return integrate_exposure(self.radiance, t, shutter=shutter, count=count).clamp_(0, 1)

    def subframes(self, t: float, *, shutter: float) -> int:
        """Sub-frames of an exposure: so many that nothing moves by a pixel between two."""
        edges = [t + shutter * (k / _PATH_SEGMENTS - 0.5) for k in range(_PATH_SEGMENTS + 1)]
        return max(_MIN_SUBFRAMES, *(math.ceil(_path_length(layer, edges)) for layer in self.layers)) | 1

    def radiance(self, t: float) -> Tensor:
        """What reaches the sensor at one moment: [3, H, W] linear RGB, highlights above 1 kept."""
        picture = np.zeros((*self.size, 3), np.float32)
        for layer in self.layers:
            window = _window(layer, t, self.size)
            if window is None:
                continue
            top, bottom, left, right = window
            part = _render_window(layer, t, window)
            below = picture[top:bottom, left:right]
            below *= 1 - part[..., 3:]
            below += part[..., :3]
        return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))

    def flow(self, t0: float, t1: float) -> Tensor:
        """Where each pixel at `t0` is found at `t1`: [2, H, W] (dx, dy), as `Flow.uv`."""
        h, w = self.size
        grid = np.stack(np.meshgrid(np.arange(w), np.arange(h)), axis=-1).astype(np.float64)
        foremost = self._foremost(t0)
        uv = np.zeros((h, w, 2))
        for number, layer in enumerate(self.layers):
            selected = foremost == number
            matrix = layer.homography(t1) @ np.linalg.inv(layer.homography(t0))
            uv[selected] = _transform(matrix, grid[selected]) - grid[selected]
        return torch.from_numpy(uv.transpose(2, 0, 1)).float().contiguous()

    def movers(self, t: float) -> Tensor:
        """[H, W] how much of each pixel is covered by what moves otherwise than the camera."""
        mask = np.zeros(self.size, np.float32)
        for layer in self.layers:
            cover = self._full_layer(layer, t)[..., 3]
            mask = mask * (1 - cover) + cover * layer.mover
        return torch.from_numpy(mask)

    def _rolling_shutter(self, t: float, *, shutter: float, readout: float) -> Tensor:
        """Rows that gather light one after the other, each for as long as the others."""
        span = shutter + readout
        count = self.subframes(t, shutter=span)
        subframes = (torch.arange(count) + 0.5) / count * span - span / 2
        rows = (torch.arange(self.size[0]) / max(1, self.size[0] - 1) - 0.5) * readout
        # A hat one moment wide around a row's exposure, so that the shortest exposure still sees something.
        edge = (shutter / 2 - (subframes[:, None] - rows).abs()) * count / span + 1
        weights = edge.clamp(0, 1) if shutter > 0 else edge.clamp_min(0)
        weights = weights / weights.sum(0)
        total = torch.zeros(3, *self.size)
        for subframe, weight in zip(subframes.tolist(), weights, strict=True):
            if weight.any():
                total += self.radiance(t + subframe) * weight[:, None]
        return total

    def _foremost(self, t: float) -> npt.NDArray[np.int64]:
        """[H, W] the number of the layer that gives most of a pixel's light."""
        weights: list[Array] = []
        for layer in self.layers:
            cover = self._full_layer(layer, t)[..., 3]
            weights = [weight * (1 - cover) for weight in weights] + [cover]
        return np.asarray(np.argmax(weights, axis=0))

    def _full_layer(self, layer: Layer, t: float) -> Array:
        whole = np.zeros((*self.size, 4), np.float32)
        window = _window(layer, t, self.size)
        if window is not None:
            top, bottom, left, right = window
            whole[top:bottom, left:right] = _render_window(layer, t, window)
        return whole


Window = tuple[int, int, int, int]  # top, bottom, left, right


def _window(layer: Layer, t: float, size: tuple[int, int]) -> Window | None:
    """The part of the frame that a layer can reach."""
    h, w = size
    if layer.mirrored:
        return 0, h, 0, w
    corners = layer.corners(t)
    left, top = np.maximum(np.floor(corners.min(0)).astype(int) - 1, 0)
    right, bottom = np.minimum(np.ceil(corners.max(0)).astype(int) + 2, (w, h))
    return (int(top), int(bottom), int(left), int(right)) if left < right and top < bottom else None


def _render_window(layer: Layer, t: float, window: Window) -> Array:
    top, bottom, left, right = window
    into = np.array([[1.0, 0, -left], [0, 1, -top], [0, 0, 1]])
    border = cv2.BORDER_REFLECT if layer.mirrored else cv2.BORDER_CONSTANT
    size = (right - left, bottom - top)
    warped = cv2.warpPerspective(
        layer.texture, into @ layer.homography(t), size, flags=layer.interpolation, borderMode=border
    )
    return np.asarray(warped, np.float32)


def _path_length(layer: Layer, times: Sequence[float]) -> float:
    """Pixels that the fastest corner of a layer travels through `times`."""
    stops = np.stack([layer.corners(t) for t in times])
    return float(np.linalg.norm(np.diff(stops, axis=0), axis=-1).sum(axis=0).max())


def _transform(matrix: Matrix, points: Matrix) -> Matrix:
    """[N, 2] points through a homography."""
    homogeneous = points @ matrix[:, :2].T + matrix[:, 2]
    projected: Matrix = homogeneous[:, :2] / homogeneous[:, 2:]
    return projected
