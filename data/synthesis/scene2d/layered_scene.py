"""Renderer of layered 2-D scenes with exact frames, exposures, flow and masks.

A scene is a stack of textures, each warped to the frame by a homography over time. The unit of time is the
frame interval. Light is integrated over the exposure and then clipped at white, as in a sensor: a highlight
brighter than white leaves a white trail.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from freezeframe.data.blur.operator import integrate_exposure

Array = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]  # [3, 3] homography
HomographyFunction = Callable[[float], Matrix]  # time in frame intervals -> homography

_MIN_SUBFRAMES = 9  # per exposure
_PATH_SEGMENTS = 8  # straight segments by which the length of a path is measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A texture with soft edges, and its motion.

    `texture` must not exceed the Nyquist limit of the frame: sampling has no anti-aliasing filter.
    """

    texture: Array  # [h, w, 4] premultiplied linear RGB, and alpha in [0, 1]
    homography: HomographyFunction  # texture pixel -> frame pixel
    mover: bool = False  # moves independently of the camera
    mirrored: bool = False  # reflected beyond its border, else transparent
    interpolation: int = cv2.INTER_LINEAR  # OpenCV's interpolation

    def corners(self, t: float) -> Matrix:
        """[4, 2] frame coordinates (x, y) of the corners of the texture."""
        h, w = self.texture.shape[:2]
        return _transform(self.homography(t), np.array([[0.0, 0], [w - 1, 0], [0, h - 1], [w - 1, h - 1]]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Layers from back to front, and the size (height, width) of the frame."""

    layers: tuple[Layer, ...]
    size: tuple[int, int]

    def sharp(self, t: float, *, readout: float = 0.0) -> Tensor:
        """Latent image at time `t`. [3, H, W] linear RGB in [0, 1].

        With a rolling shutter, each row at the middle of its exposure; `readout` as for `blurred`.
        """
        if readout == 0:
            return self.radiance(t).clamp_(0, 1)
        return self._rolling_shutter(t, shutter=0.0, readout=readout).clamp_(0, 1)

    def blurred(self, t: float, *, shutter: float, readout: float = 0.0) -> Tensor:
        """Image of an exposure of `shutter` frame intervals, centred on `t`. [3, H, W] linear RGB in [0, 1].

        A rolling shutter exposes the last row `readout` intervals after the first, the middle one at `t`.

        Raises:
            ValueError: `shutter` is outside (0, 1].
        """
        if not 0 < shutter <= 1:
            raise ValueError(f"shutter must lie in (0, 1], not {shutter}")
        if readout > 0:
            return self._rolling_shutter(t, shutter=shutter, readout=readout).clamp_(0, 1)
        count = self.subframes(t, shutter=shutter)
        return integrate_exposure(self.radiance, t, shutter=shutter, count=count).clamp_(0, 1)

    def subframes(self, t: float, *, shutter: float) -> int:
        """Number of sub-frames of an exposure: motion between two of them is less than a pixel."""
        edges = [t + shutter * (k / _PATH_SEGMENTS - 0.5) for k in range(_PATH_SEGMENTS + 1)]
        return max(_MIN_SUBFRAMES, *(math.ceil(_path_length(layer, edges)) for layer in self.layers)) | 1

    def radiance(self, t: float) -> Tensor:
        """Light at one instant, [3, H, W] linear RGB, not clipped."""
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
        """Flow from `t0` to `t1`, [2, H, W] pixels, as `Flow.uv`."""
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
        """[H, W] alpha in [0, 1] of the independently moving layers."""
        mask = np.zeros(self.size, np.float32)
        for layer in self.layers:
            cover = self._full_layer(layer, t)[..., 3]
            mask = mask * (1 - cover) + cover * layer.mover
        return torch.from_numpy(mask)

    def swept_movers(self, t: float, *, shutter: float) -> Tensor:
        """[H, W] largest alpha of the moving layers at any time of an exposure: their mask and their blur."""
        first = next((k for k, layer in enumerate(self.layers) if layer.mover), len(self.layers))
        covers = Scene(layers=tuple(map(_as_cover, self.layers[first:])), size=self.size)
        count = self.subframes(t, shutter=shutter) if covers.layers else 1
        swept = torch.zeros(self.size)
        for k in range(count):
            swept = torch.maximum(swept, covers.radiance(t + shutter * ((k + 0.5) / count - 0.5))[0])
        return swept

    def _rolling_shutter(self, t: float, *, shutter: float, readout: float) -> Tensor:
        """Image of a rolling shutter, not clipped; `shutter` 0 is an exposure of one sub-frame per row."""
        span = shutter + readout
        count = self.subframes(t, shutter=span)
        subframes = (torch.arange(count) + 0.5) / count * span - span / 2
        rows = (torch.arange(self.size[0]) / max(1, self.size[0] - 1) - 0.5) * readout
        # A linear ramp one sub-frame wide at both ends, so that the shortest exposure has nonzero weights.
        edge = (shutter / 2 - (subframes[:, None] - rows).abs()) * count / span + 1
        weights = edge.clamp(0, 1) if shutter > 0 else edge.clamp_min(0)
        weights = weights / weights.sum(0)
        total = torch.zeros(3, *self.size)
        for subframe, weight in zip(subframes.tolist(), weights, strict=True):
            if weight.any():
                total += self.radiance(t + subframe) * weight[:, None]
        return total

    def _foremost(self, t: float) -> npt.NDArray[np.int64]:
        """[H, W] index of the layer with the largest weight in each pixel."""
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
    """Bounding box of a layer in the frame, None if it is outside."""
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


def _as_cover(layer: Layer) -> Layer:
    """A white layer if it is a mover, else a black one: the light of such a scene is the movers' alpha."""
    cover = layer.texture[..., 3:]
    return replace(layer, texture=np.concatenate([cover * layer.mover] * 3 + [cover], axis=-1))


def _path_length(layer: Layer, times: Sequence[float]) -> float:
    """Longest path of the corners of a layer through `times`, in pixels."""
    positions = np.stack([layer.corners(t) for t in times])
    return float(np.linalg.norm(np.diff(positions, axis=0), axis=-1).sum(axis=0).max())


def _transform(matrix: Matrix, points: Matrix) -> Matrix:
    """Apply a homography to [N, 2] points."""
    homogeneous = points @ matrix[:, :2].T + matrix[:, 2]
    projected: Matrix = homogeneous[:, :2] / homogeneous[:, 2:]
    return projected
