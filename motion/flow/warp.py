"""Warping of images along optical flow."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from .interpolation import Method, pixel_grid, sample

_REMAP_CHANNELS = 4  # most channels of one call of cv2.remap


def warp(image: Tensor, uv: Tensor, *, method: Method = "bilinear") -> Tensor:
    """Warp the target image to the source grid: result(x, y) = image(x + dx, y + dy).

    Outside, the border pixels are replicated. Differentiable; without gradients, bilinear interpolation of
    float32 on the CPU uses OpenCV, which is faster.

    Args:
        image: [C, H, W] or [B, C, H, W].
        uv: [2, h, w] or [B, 2, h, w] pixels, as `Flow.uv`.
        method: "catmull-rom" loses less detail, at about ten times the time on a CPU.
    """
    if method == "bilinear" and _can_remap(image, uv):
        return _remap(image, uv)
    x, y = pixel_grid(uv)
    return sample(image, x + uv[..., 0, :, :], y + uv[..., 1, :, :], method=method)


def invert(uv: Tensor, *, iterations: int = 10) -> Tensor:
    """Inverse of a flow, [2, H, W] pixels: uv + warp(inverse, uv) = 0.

    Fixed-point iteration inverse = -uv(x + inverse) (Chen et al. 2008), which converges where the flow is
    one-to-one.
    """
    inverse = -uv
    for _ in range(iterations):
        inverse = -warp(uv, inverse)
    return inverse


def _can_remap(image: Tensor, uv: Tensor) -> bool:
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
        # OpenCV rounds the weights of two-channel images to 1/32, and is no faster than one after the other.
        for plane, target in zip(planes, warped, strict=True):
            cv2.remap(plane, x, y, cv2.INTER_LINEAR, dst=target, borderMode=cv2.BORDER_REPLICATE)
        return
    # cv2.merge and cv2.extractChannel take a fraction of the time of NumPy.
    pixels = cv2.remap(cv2.merge(list(planes)), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    for k, target in enumerate(warped):
        cv2.extractChannel(pixels, k, target)
