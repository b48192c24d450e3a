"""Shows one frame from another frame's pixel grid."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from .interpolation import Method, pixel_grid, sample

_REMAP_CHANNELS = 4  # what one cv2.remap call can take


def warp(image: Tensor, uv: Tensor, *, method: Method = "bilinear") -> Tensor:
    """The target image as seen on the source grid: result(x, y) = image(x + dx, y + dy).

    Beyond its border the image repeats its border pixels. Differentiable; plain bilinear reads of float32
    on the CPU take OpenCV's faster road.

    Args:
        image: [C, H, W] or [B, C, H, W].
        uv: [2, h, w] or [B, 2, h, w] pixels, as `Flow.uv`.
        method: "catmull-rom" loses less detail, at about ten times the cost on a CPU.
    """
    if method == "bilinear" and _is_plain(image, uv):
        return _remap(image, uv)
    x, y = pixel_grid(uv)
    return sample(image, x + uv[..., 0, :, :], y + uv[..., 1, :, :], method=method)


def compose(first: Tensor, second: Tensor) -> Tensor:
    """The shift from A to C, of `first` (A to B) and `second` (B to C), [2, H, W] each."""
    return first + warp(second, first)


def invert(uv: Tensor, *, rounds: int = 10) -> Tensor:
    """The shift back, [2, H, W]: what `compose(shift, back)` makes zero.

    Fixed point of back = -shift(x + back) (Chen et al. 2008): converges where neighbours stay neighbours.
    """
    back = -uv
    for _ in range(rounds):
        back = -warp(uv, back)
    return back


def _is_plain(image: Tensor, uv: Tensor) -> bool:
    tracked = torch.is_grad_enabled() and (image.requires_grad or uv.requires_grad)
    return image.ndim == 3 and not tracked and all(t.is_cpu and t.dtype == torch.float32 for t in (image, uv))


def _remap(image: Tensor, uv: Tensor) -> Tensor:
    x, y = (axis.numpy() for axis in pixel_grid(uv))
    at_x, at_y = x + uv[0].detach().numpy(), y + uv[1].detach().numpy()
    warped = np.empty((len(image), *at_x.shape), np.float32)
    for first in range(0, len(image), _REMAP_CHANNELS):
        channels = slice(first, first + _REMAP_CHANNELS)
        _remap_planes(image[channels].detach().numpy(), at_x, at_y, warped[channels])
    return torch.from_numpy(warped)


def _remap_planes(planes: np.ndarray, x: np.ndarray, y: np.ndarray, warped: np.ndarray) -> None:
    if len(planes) < 3:
        # Two at once OpenCV reads with weights rounded to 1/32, and no sooner than one after the other.
        for plane, target in zip(planes, warped, strict=True):
            cv2.remap(plane, x, y, cv2.INTER_LINEAR, dst=target, borderMode=cv2.BORDER_REPLICATE)
        return
    # OpenCV lays planes side by side and takes them apart again in a fraction of NumPy's time.
    pixels = cv2.remap(cv2.merge(list(planes)), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    for k, target in enumerate(warped):
        cv2.extractChannel(pixels, k, target)
