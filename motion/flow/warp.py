"""Shows one frame from another frame's pixel grid."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from .interpolation import Method, pixel_grid, sample

_REMAP_CHANNELS = 4  # what one cv2.remap call can take


def warp(image: Tensor, shift: Tensor, *, method: Method = "bilinear") -> Tensor:
    """The target image as seen on the source grid: result(x, y) = image(x + dx, y + dy).

    Beyond its border the image repeats its border pixels. Differentiable; plain bilinear reads of float32
    on the CPU take OpenCV's faster road.

    Args:
        image: [C, H, W] or [B, C, H, W].
        shift: [2, h, w] or [B, 2, h, w] pixels, as `Flow.shift`.
        method: "catmull-rom" loses less detail, at about ten times the cost on a CPU.
    """
    if method == "bilinear" and _is_plain(image, shift):
        return _remap(image, shift)
    x, y = pixel_grid(shift)
    return sample(image, x + shift[..., 0, :, :], y + shift[..., 1, :, :], method=method)


def compose(first: Tensor, second: Tensor) -> Tensor:
    """The shift from A to C, of `first` (A to B) and `second` (B to C), [2, H, W] each."""
    return first + warp(second, first)


def invert(shift: Tensor, *, rounds: int = 10) -> Tensor:
    """The shift back, [2, H, W]: what `compose(shift, back)` makes zero.

    Fixed point of back = -shift(x + back) (Chen et al. 2008): converges where neighbours stay neighbours.
    """
    back = -shift
    for _ in range(rounds):
        back = -warp(shift, back)
    return back


def _is_plain(image: Tensor, shift: Tensor) -> bool:
    tracked = torch.is_grad_enabled() and (image.requires_grad or shift.requires_grad)
    return (
        image.ndim == 3 and not tracked and all(t.is_cpu and t.dtype == torch.float32 for t in (image, shift))
    )


def _remap(image: Tensor, shift: Tensor) -> Tensor:
    x, y = (axis.numpy() for axis in pixel_grid(shift))
    at_x, at_y = x + shift[0].detach().numpy(), y + shift[1].detach().numpy()
    read = np.empty((len(image), *at_x.shape), np.float32)
    for first in range(0, len(image), _REMAP_CHANNELS):
        some = slice(first, first + _REMAP_CHANNELS)
        _remap_planes(image[some].detach().numpy(), at_x, at_y, read[some])
    return torch.from_numpy(read)


def _remap_planes(planes: np.ndarray, x: np.ndarray, y: np.ndarray, read: np.ndarray) -> None:
    if len(planes) < 3:
        # Two at once OpenCV reads with weights rounded to 1/32, and no sooner than one after the other.
        for plane, into in zip(planes, read, strict=True):
            cv2.remap(plane, x, y, cv2.INTER_LINEAR, dst=into, borderMode=cv2.BORDER_REPLICATE)
        return
    # OpenCV lays planes side by side and takes them apart again in a fraction of NumPy's time.
    pixels = cv2.remap(cv2.merge(list(planes)), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    for k, into in enumerate(read):
        cv2.extractChannel(pixels, k, into)
