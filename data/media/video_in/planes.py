"""The planes of a video frame: their layout, and their samples as code values of Y'CbCr or R'G'B'."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from av import VideoFormat, VideoFrame
from torch import Tensor

from freezeframe.data.color import FULL
from freezeframe.data.errors import UnreadableMedia
from freezeframe.data.types import Box

from .chroma import Plane, downsample, upsample

DECIMATION_REACH = 2  # pixels beyond a chroma sample that `downsample` reads
THREADS = 1  # sliced swscale writes wrong rows in semi-planar frames of odd height (FFmpeg 8.1)
_INTERPOLATION_REACH = 1  # pixels beyond which `upsample` reads no chroma sample
_DEPTHS = (8, 10, 12, 16)
_CHROMA = {(1, 1): "444", (2, 1): "422", (2, 2): "420"}

Samples = npt.NDArray[np.generic]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The planar memory layout of a pixel format."""

    pix_fmt: str
    depth: int  # bits
    rgb: bool
    subsampled: tuple[bool, bool]  # chroma has half the rows, half the columns

    @property
    def gray(self) -> bool:
        return self.pix_fmt.startswith("gray")


@lru_cache(maxsize=64)
def planar_layout(pix_fmt: str) -> Layout:
    """The planar format with the samples of `pix_fmt`, without alpha.

    Raises:
        UnreadableMedia: The format has more than 16 bits per sample, floating point or Bayer samples.
    """
    fmt = VideoFormat(pix_fmt, 64, 64)
    components = [part for part in fmt.components if not part.is_alpha]
    bits = 8 if fmt.has_palette else max(part.bits for part in components)
    if bits > 16 or "f16" in pix_fmt or fmt.is_bayer:
        raise UnreadableMedia(
            f"pixel format {pix_fmt} cannot be read; convert it to 16 bits or fewer per sample"
        )
    depth = next(depth for depth in _DEPTHS if depth >= bits)
    rgb = fmt.is_rgb or fmt.has_palette
    step = (64 // fmt.chroma_width(64), 64 // fmt.chroma_height(64))
    chroma = _CHROMA.get(step, "444")
    stem = "gbrp" if rgb else "gray" if len(components) == 1 else f"yuv{'j' * ('yuvj' in pix_fmt)}{chroma}p"
    return Layout(
        pix_fmt=stem + (f"{depth}le" if depth > 8 else ""),
        depth=depth,
        rgb=rgb,
        subsampled=(chroma == "420" and not rgb, chroma != "444" and not rgb),
    )


def planes(frame: VideoFrame) -> list[Samples]:
    """Views of the planes of a frame, [h, w] uint8 or uint16."""
    kind = np.dtype(np.uint8 if planar_layout(frame.format.name).depth == 8 else np.uint16)
    return [
        np.frombuffer(memoryview(plane), kind).reshape(plane.height, plane.line_size // kind.itemsize)[
            :, : plane.width
        ]
        for plane in frame.planes
    ]


def whole_samples(box: Box, size: tuple[int, int]) -> Box:
    """The smallest box that holds `box` and, in every format, only whole chroma samples; `size` is (H, W)."""
    return Box(
        left=box.left // 2 * 2,
        top=box.top // 2 * 2,
        right=min(size[1], (box.right + 1) // 2 * 2),
        bottom=min(size[0], (box.bottom + 1) // 2 * 2),
    )


def read_codes(frame: VideoFrame, box: Box) -> Tensor:
    """[3, h, w] float32 code values of Y'CbCr or R'G'B' in a box. Gray gets neutral chroma."""
    layout, size = planar_layout(frame.format.name), (frame.height, frame.width)
    codes = torch.empty(3, box.height, box.width)
    out, parts, inside = codes.numpy(), planes(frame), box.slices(size)
    if layout.gray:
        out[0], out[1:] = parts[0][inside], 1 << (layout.depth - 1)
        return codes
    if layout.rgb:
        out[1], out[2], out[0] = (part[inside] for part in parts)
        return codes
    outer = whole_samples(box.widen(_INTERPOLATION_REACH, size), size)
    outer_size = (outer.height, outer.width)
    inner = box.shift(-outer.left, -outer.top).slices(outer_size)
    out[0] = parts[0][inside]
    for k in (1, 2):
        out[k] = upsample(_chroma_part(parts[k], outer, layout), outer_size, layout.subsampled)[inner]
    return codes


def write_codes(frame: VideoFrame, codes: Tensor) -> None:
    """Quantise [3, H, W] code values of Y'CbCr or R'G'B' into the planes of `frame`."""
    for plane, samples in zip(planes(frame), _quantise(codes, frame), strict=True):
        np.copyto(plane, samples, casting="unsafe")


def overwrite_codes(frame: VideoFrame, box: Box, codes: Tensor, mask: Mask) -> None:
    """`write_codes` for [3, h, w] codes of a box of `whole_samples`, where `mask` [h, w] is true."""
    layout = planar_layout(frame.format.name)
    for k, (plane, samples) in enumerate(zip(planes(frame), _quantise(codes, frame), strict=True)):
        if k == 0 or layout.rgb:
            np.copyto(plane[box.slices(plane.shape)], samples, casting="unsafe", where=mask)
        else:
            chroma_mask = _any_per_sample(mask, layout.subsampled)
            np.copyto(_chroma_part(plane, box, layout), samples, casting="unsafe", where=chroma_mask)


def _quantise(codes: Tensor, frame: VideoFrame) -> Iterator[Plane]:
    """The samples of each plane of `frame`, as integers of type float."""
    layout, encoded = planar_layout(frame.format.name), codes.numpy()
    for k in (1, 2, 0) if layout.rgb else range(len(frame.planes)):
        is_full_resolution = k == 0 or layout.rgb
        samples = encoded[k] if is_full_resolution else downsample(encoded[k], layout.subsampled)
        yield np.rint(np.clip(samples, 0, float((1 << layout.depth) - 1)))


def _chroma_part(plane: Samples, box: Box, layout: Layout) -> Samples:
    """View of the chroma samples of a box of `whole_samples`."""
    rows, columns = (1 + each for each in layout.subsampled)
    return plane[box.top // rows : -(-box.bottom // rows), box.left // columns : -(-box.right // columns)]


def _any_per_sample(mask: Mask, subsampled: tuple[bool, bool]) -> Mask:
    """Whether a mask of pixels is true anywhere in each chroma sample."""
    for axis in (0, 1):
        if subsampled[axis]:
            mask = np.logical_or.reduceat(mask, np.arange(0, mask.shape[axis], 2), axis=axis)
    return mask


def blank_like(frame: VideoFrame) -> VideoFrame:
    """A frame of the same format, tags and side data (captions, HDR10+), with undefined pixels."""
    # A range conversion is the only copy in PyAV that keeps both the format and the side data.
    other_range = 1 if frame.color_range == FULL else FULL
    copy = frame.reformat(dst_color_range=other_range, src_color_range=3 - other_range, threads=THREADS)
    if copy is frame:
        copy = VideoFrame(frame.width, frame.height, frame.format.name)
    for tag in ("colorspace", "color_range", "color_primaries", "color_trc", "pts"):
        setattr(copy, tag, getattr(frame, tag))
    if frame.time_base is not None:
        copy.time_base = frame.time_base
    return copy


def copy_of(frame: VideoFrame) -> VideoFrame:
    """A frame with the same samples, tags and side data."""
    copy = blank_like(frame)
    for target, plane in zip(planes(copy), planes(frame), strict=True):
        np.copyto(target, plane, casting="no")
    return copy
