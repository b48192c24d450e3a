"""Pictures at a fraction of their resolution, for measurements that need no detail."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from freezeframe.data.color import IDENTITY, ColorSpec, to_linear
from freezeframe.data.types import Picture

from .frame_picture import VideoPicture
from .planes import THREADS


def reduced_linear(picture: Picture, factor: int) -> Tensor:
    """[3, h, w] linear RGB at 1 / `factor` of the resolution: means of blocks.

    Blocks of a video frame are averaged as they are stored, gamma-coded, so that only the small picture is
    converted.
    """
    if factor == 1:
        return picture.linear()
    if not isinstance(picture, VideoPicture):
        return avg_pool2d(picture.linear(), factor)
    height, width = (max(1, side // factor) for side in picture.size)
    small = picture.frame.reformat(
        width=width, height=height, format=picture.layout.pix_fmt, interpolation="AREA", threads=THREADS
    )
    # By convention the matrix of an untagged file depends on its height.
    small.colorspace, small.color_trc = picture.spec.matrix, picture.frame.color_trc
    small.color_range, small.color_primaries = picture.frame.color_range, picture.frame.color_primaries
    return VideoPicture(small).linear()


@lru_cache(maxsize=8)
def gray_levels(spec: ColorSpec) -> Tensor:
    """[256] linear light of the values of `VideoPicture.luma` where the picture is gray."""
    step = 2.0 ** (spec.depth - 8)
    codes = torch.arange(256) * step
    neutral = torch.full_like(codes, 128 * step)
    planes = [codes, codes, codes] if spec.matrix == IDENTITY else [codes, neutral, neutral]
    gain, offset = spec.decoder
    return to_linear(torch.addmm(offset, gain, torch.stack(planes)), spec.transfer)[1]
