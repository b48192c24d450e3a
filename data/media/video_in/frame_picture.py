"""A decoded video frame as a `Picture`: conversion between its planes and linear RGB."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
import torch
from av import VideoFormat, VideoFrame
from torch import Tensor

from freezeframe.data.color import (
    FULL,
    IDENTITY,
    SRGB,
    UNSPECIFIED,
    ColorSpec,
    resolve_matrix,
    to_encoded,
    to_linear_,
)
from freezeframe.data.errors import UnreadableMedia

from .chroma import downsample, upsample

_DEPTHS = (8, 10, 12, 16)
_CHROMA = {(1, 1): "444", (2, 1): "422", (2, 2): "420"}
_NEAR_BLACK = 0.05  # signal; range over which negative R'G'B' fades out
_THREADS = 1  # sliced swscale writes wrong rows in semi-planar frames of odd height (FFmpeg 8.1)


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


def color_spec(frame: VideoFrame) -> ColorSpec:
    """The encoding of a frame; missing tags are set by convention."""
    layout = planar_layout(frame.format.name)
    is_full_by_format = layout.rgb or layout.gray or layout.pix_fmt.startswith("yuvj")
    untagged = frame.color_trc == UNSPECIFIED
    return ColorSpec(
        matrix=IDENTITY if layout.rgb else resolve_matrix(frame.colorspace, frame.height),
        full=frame.color_range == FULL or (is_full_by_format and frame.color_range != 1),
        primaries=frame.color_primaries,
        transfer=SRGB if untagged and layout.rgb else frame.color_trc,
        depth=layout.depth,
    )


@dataclass(frozen=True)
class VideoPicture:
    """One video frame. Conversions are lazy."""

    frame: VideoFrame
    unmodified: bool = True  # as decoded

    @property
    def size(self) -> tuple[int, int]:
        return self.frame.height, self.frame.width

    @property
    def depth(self) -> int:
        """Bits per sample."""
        return self.layout.depth

    @cached_property
    def layout(self) -> Layout:
        return planar_layout(self.frame.format.name)

    @cached_property
    def spec(self) -> ColorSpec:
        return color_spec(self.frame)

    def linear(self) -> Tensor:
        """[3, H, W] linear float32 RGB; 1 is white (1,000 cd/m2 with PQ), highlights may exceed it."""
        return to_linear_(self.signal(), self.spec.transfer)

    def luma(self) -> Tensor:
        """[H, W] uint8: the luma plane, or the green plane of RGB."""
        plane = _planes(self._planar())[0]
        if self.depth > 8:
            plane = np.right_shift(plane, self.depth - 8)
        return torch.from_numpy(plane.astype(np.uint8, order="C"))

    def with_linear(self, image: Tensor) -> VideoPicture:
        """A frame of the same format, tags and side data with the pixels of `image`, [3, H, W] linear RGB."""
        signal = to_encoded(image.detach().cpu().float(), self.spec.transfer)
        signal += self._below_black(signal)
        frame = _blank_like(self._planar())
        _write_encoded(frame, signal, self.spec)
        return VideoPicture(frame, unmodified=False)

    def _planar(self) -> VideoFrame:
        if self.frame.format.name == self.layout.pix_fmt:
            return self.frame
        return self.frame.reformat(format=self.layout.pix_fmt, threads=_THREADS)

    def signal(self) -> Tensor:
        """[3, H, W] R'G'B'; negative for code values outside the RGB gamut."""
        gain, offset = self.spec.decoder
        encoded = _read_encoded(self._planar(), self.layout, self.size)
        return torch.addmm(offset, gain, encoded.view(3, -1)).view(encoded.shape)

    def _below_black(self, signal: Tensor) -> Tensor:
        """The negative part of R'G'B' that `linear` clips, where `signal` is dark.

        Saturated colours and noisy shadows have code values outside the gamut. Without them a processed
        region would change its tint.
        """
        negative = self.signal().clamp_(max=0)
        return negative.mul_((1 - signal / _NEAR_BLACK).clamp_(0, 1))


def convert_format(picture: VideoPicture, pix_fmt: str) -> VideoFrame:
    """The frame in another pixel format, with the same range and matrix; RGB becomes BT.709."""
    if picture.frame.format.name == pix_fmt:
        return picture.frame
    if picture.layout.rgb and not planar_layout(pix_fmt).rgb:
        return _rgb_to_bt709(picture, pix_fmt)
    span = FULL if picture.spec.full else 1
    return picture.frame.reformat(
        format=pix_fmt, src_color_range=span, dst_color_range=span, threads=_THREADS
    )


def _rgb_to_bt709(picture: VideoPicture, pix_fmt: str) -> VideoFrame:
    height, width = picture.size
    frame = VideoFrame(width, height, pix_fmt)
    frame.colorspace, frame.color_range = 1, 1
    frame.color_primaries, frame.color_trc = picture.frame.color_primaries, picture.frame.color_trc
    _write_encoded(frame, picture.signal(), color_spec(frame))
    return frame


def frame_from_linear(image: Tensor, *, depth: int) -> VideoFrame:
    """A BT.709 frame of 8 or 10 bits from [3, H, W] linear RGB; odd sizes are written as 4:4:4."""
    height, width = image.shape[1:]
    stem = "yuv444p" if height % 2 or width % 2 else "yuv420p"
    frame = VideoFrame(width, height, stem + ("10le" if depth > 8 else ""))
    frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range = 1, 1, 1, 1
    spec = color_spec(frame)
    _write_encoded(frame, to_encoded(image.detach().cpu().float(), spec.transfer), spec)
    return frame


def _planes(frame: VideoFrame) -> list[npt.NDArray[np.generic]]:
    """Views of the planes of a frame, [h, w] uint8 or uint16."""
    kind = np.dtype(np.uint8 if planar_layout(frame.format.name).depth == 8 else np.uint16)
    return [
        np.frombuffer(memoryview(plane), kind).reshape(plane.height, plane.line_size // kind.itemsize)[
            :, : plane.width
        ]
        for plane in frame.planes
    ]


def _read_encoded(frame: VideoFrame, layout: Layout, size: tuple[int, int]) -> Tensor:
    """[3, H, W] float32 code values of Y'CbCr or R'G'B'. Gray gets neutral chroma."""
    planes = _planes(frame)
    encoded = torch.empty(3, *size)
    out = encoded.numpy()
    if layout.gray:
        out[0], out[1:] = planes[0], 1 << (layout.depth - 1)
        return encoded
    if layout.rgb:
        out[1], out[2], out[0] = planes
        return encoded
    out[0] = planes[0]
    for k in (1, 2):
        out[k] = upsample(planes[k], size, layout.subsampled)
    return encoded


def _write_encoded(frame: VideoFrame, signal: Tensor, spec: ColorSpec) -> None:
    """Quantise [3, H, W] R'G'B' into the planes of `frame`."""
    layout = planar_layout(frame.format.name)
    gain, offset = spec.encoder
    encoded = torch.addmm(offset, gain, signal.reshape(3, -1)).view(signal.shape).numpy()
    order = (1, 2, 0) if layout.rgb else range(len(frame.planes))
    for plane, k in zip(_planes(frame), order, strict=True):
        is_full_resolution = k == 0 or layout.rgb
        samples = encoded[k] if is_full_resolution else downsample(encoded[k], layout.subsampled)
        max_value = float((1 << layout.depth) - 1)
        np.copyto(plane, np.rint(np.clip(samples, 0, max_value)), casting="unsafe")


def _blank_like(frame: VideoFrame) -> VideoFrame:
    """A frame of the same format, tags and side data (captions, HDR10+), with undefined pixels."""
    # A range conversion is the only copy in PyAV that keeps both the format and the side data.
    other_range = 1 if frame.color_range == FULL else FULL
    copy = frame.reformat(dst_color_range=other_range, src_color_range=3 - other_range, threads=_THREADS)
    if copy is frame:
        copy = VideoFrame(frame.width, frame.height, frame.format.name)
    for tag in ("colorspace", "color_range", "color_primaries", "color_trc", "pts"):
        setattr(copy, tag, getattr(frame, tag))
    if frame.time_base is not None:
        copy.time_base = frame.time_base
    return copy


def flatten_samples(picture: VideoPicture) -> npt.NDArray[np.generic]:
    """All samples of a picture, plane by plane, [n] uint8 or uint16."""
    return np.concatenate([plane.ravel() for plane in _planes(picture._planar())])


def with_samples(template: VideoPicture, samples: npt.NDArray[np.generic]) -> VideoPicture:
    """The inverse of `flatten_samples`: a picture with the format, tags and side data of `template`."""
    frame, first = _blank_like(template._planar()), 0
    for plane in _planes(frame):
        np.copyto(plane, samples[first : first + plane.size].reshape(plane.shape), casting="no")
        first += plane.size
    return VideoPicture(frame, unmodified=False)
