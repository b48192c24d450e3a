"""A photo as a `Picture`: decoded pixels in upright orientation, and metadata."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from freezeframe.data.types import Box, Picture

from .exif import with_dimensions
from .icc_curve import Lut, encode_with_profile, linear_lut

Pixels = npt.NDArray[Any]

# The transposition to upright orientation, by EXIF orientation (EXIF 2.32, tag 0112).
EXIF_TRANSPOSE: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PhotoPicture:
    """One photo. Alpha is passed through; linear RGB is not premultiplied."""

    pixels: Pixels  # [H, W, 3] uint8 or uint16 R'G'B', upright
    alpha: Pixels | None = None  # [H, W] of the same dtype
    profile: bytes | None = None  # ICC profile of RGB
    exif: bytes | None = None  # a TIFF structure with orientation 1
    file: Path | None = None  # the file with exactly this content, if any

    def __post_init__(self) -> None:
        if (
            self.pixels.ndim != 3
            or self.pixels.shape[2] != 3
            or self.pixels.dtype not in (np.uint8, np.uint16)
        ):
            raise ValueError(
                "PhotoPicture.pixels must be [H, W, 3] uint8 or uint16, not"
                f" {self.pixels.shape} {self.pixels.dtype}"
            )

    @property
    def size(self) -> tuple[int, int]:
        height, width, _ = self.pixels.shape
        return height, width

    @property
    def depth(self) -> int:
        """Bits per sample."""
        return 8 * int(self.pixels.dtype.itemsize)

    def linear(self) -> Tensor:
        """[3, H, W] linear float32 RGB in the primaries of the photo's own profile."""
        return self._to_linear(self.pixels)

    def linear_in(self, box: Box) -> Tensor:
        """[3, h, w] the pixels of `linear` in a box."""
        return self._to_linear(self.pixels[box.slices(self.size)])

    def luma(self) -> Tensor:
        """[H, W] uint8: BT.601 luma of the code values."""
        gray: Pixels = cv2.cvtColor(self.pixels, cv2.COLOR_RGB2GRAY)
        return torch.from_numpy(gray if self.depth == 8 else (gray // 256).astype(np.uint8))

    def with_linear(self, image: Tensor) -> PhotoPicture:
        """The same depth, profile, EXIF and alpha with the pixels of `image`, [3, H, W] linear RGB.

        For an image of another size, alpha is resampled and the EXIF dimensions are updated.
        """
        pixels = _quantize(encode_with_profile(image, self.profile), self.depth)
        height, width = pixels.shape[:2]
        if (height, width) == self.size:
            return replace(self, pixels=pixels, file=None)
        alpha = None if self.alpha is None else cv2.resize(self.alpha, (width, height))
        exif = with_dimensions(self.exif, height=height, width=width)
        return replace(self, pixels=pixels, alpha=alpha, exif=exif, file=None)

    def with_linear_in(self, box: Box, image: Tensor, mask: Tensor) -> PhotoPicture:
        """`with_linear` for the pixels of a box where `mask`, [h, w] bool, is true; `image` is [3, h, w]."""
        pixels = self.pixels.copy()
        row = image[:, mask].unsqueeze(1)
        pixels[box.slices(self.size)][mask.numpy(force=True)] = _quantize(
            encode_with_profile(row, self.profile), self.depth
        )[0]
        return replace(self, pixels=pixels, file=None)

    def _to_linear(self, pixels: Pixels) -> Tensor:
        lut = _lut(self.profile, self.depth)
        return torch.from_numpy(np.stack([lut[channel][pixels[..., channel]] for channel in range(3)]))


def to_photo(picture: Picture) -> PhotoPicture:
    """Convert any picture to a photo in sRGB, with 16 bits if it has more than 8."""
    if isinstance(picture, PhotoPicture):
        return picture
    depth = 16 if getattr(picture, "depth", 8) > 8 else 8
    return PhotoPicture(pixels=_quantize(encode_with_profile(picture.linear(), None), depth))


def to_8_bit(picture: PhotoPicture) -> PhotoPicture:
    """Convert a photo to 8 bits per sample."""
    if picture.depth == 8:
        return picture
    alpha = None if picture.alpha is None else _quantize_to_8_bit(picture.alpha)
    return replace(picture, pixels=_quantize_to_8_bit(picture.pixels), alpha=alpha, file=None)


@lru_cache(maxsize=4)
def _lut(profile: bytes | None, depth: int) -> Lut:
    return linear_lut(profile, depth)


def _quantize(signal: Tensor, depth: int) -> Pixels:
    """[H, W, 3] code values of [3, H, W] signal in [0, 1]."""
    scaled = signal.mul((1 << depth) - 1).round_().numpy().transpose(1, 2, 0)
    return np.ascontiguousarray(scaled, dtype=np.uint8 if depth == 8 else np.uint16)


def _quantize_to_8_bit(encoded: Pixels) -> Pixels:
    return ((encoded.astype(np.uint32) + 128) // 257).astype(np.uint8)
