"""The background plate of a crop: what is seen there when the movers are absent, from registered frames.

Nothing here takes a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from .region_map import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Plate:
    """The background of one crop."""

    image: Tensor  # [3, H, W] linear RGB
    known: Tensor  # [H, W] in [0, 1]; 0 where too few frames show the background, or they disagree


@dataclass(frozen=True, slots=True, kw_only=True)
class PlateConfig:
    """Tunables of the plate."""

    min_frames: int = 3  # frames that must show a pixel
    max_spread: float = 0.12  # square roots of light: disagreement from which a pixel is unknown


_DEFAULT = PlateConfig()


def background_plate(images: Tensor, seen: Tensor, *, config: PlateConfig = _DEFAULT) -> Plate:
    """Mean of the frames that agree best.

    Per pixel: of the luma of the frames that show it, the narrowest interval that holds more than half (the
    shorth, Andrews et al. 1972); the plate is the mean colour of these frames. Movers that cover a pixel in
    fewer than half of the frames do not change it.

    Args:
        images: Registered frames. [N, 3, H, W] linear RGB.
        seen: [N, H, W] whether a frame shows a pixel.
        config: Tunables.
    """
    count = len(images)
    root = images.clamp_min(0).sqrt()
    luma = root.mul(root.new_tensor([0.3, 0.6, 0.1])[:, None, None]).sum(1)
    # Frames that do not show a pixel come last.
    ranked, order = torch.where(seen, luma, luma.new_tensor(torch.inf)).sort(dim=0)
    visible = seen.sum(0)
    held = visible // 2 + 1
    start, width = _shorth(ranked, visible, held)
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(count)[:, None, None].expand_as(order))
    chosen = ((rank >= start) & (rank < start + held) & seen).to(images)
    total = chosen.sum(0).clamp_min(1)
    plate = (images * chosen[:, None]).sum(0) / total
    known = (visible >= min(config.min_frames, count)) & (width <= config.max_spread)
    return Plate(image=plate, known=known.to(images))


def _shorth(ranked: Tensor, visible: Tensor, held: Tensor) -> tuple[Tensor, Tensor]:
    """Rank of the first frame of the narrowest interval of `held` of the `visible` frames, and its width."""
    start = torch.zeros_like(visible)
    width = torch.full_like(ranked[0], torch.inf)
    for k in range(len(ranked)):
        last = k + held - 1
        possible = last < visible
        high = ranked.gather(0, last.clamp_max(len(ranked) - 1)[None])[0]
        narrower = possible & (high - ranked[k] < width)
        start = torch.where(narrower, k, start)
        width = torch.where(narrower, high - ranked[k], width)
    return start, width


def warp_crop(crop: Array, matrix: Array, size: tuple[int, int]) -> tuple[Array, Array]:
    """A crop, [h, w, 3] float32, seen from another frame: the image [H, W, 3], and where it is known.

    Args:
        crop: Linear RGB.
        matrix: Homography from pixels of the crop to those of the result. [3, 3].
        size: Height and width of the result.
    """
    shape = (size[1], size[0])
    warped = cv2.warpPerspective(crop, matrix, shape, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    inside = np.ones(crop.shape[:2], np.uint8)
    seen = cv2.warpPerspective(inside, matrix, shape, flags=cv2.INTER_NEAREST)
    return np.asarray(warped), np.asarray(seen > 0)
