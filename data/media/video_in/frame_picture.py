"""A decoded video frame as a `Picture`: conversion between its planes and linear RGB."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from av import VideoFrame
from torch import Tensor

from freezeframe.data.color import (
    FULL,
    IDENTITY,
    SRGB,
    UNSPECIFIED,
    ColorSpec,
    resolve_matrix,
    to_encoded,
    to_linear,
    to_linear_,
)
from freezeframe.data.types import Box

from .planes import (
    DECIMATION_REACH,
    THREADS,
    Layout,
    blank_like,
    copy_of,
    overwrite_codes,
    planar_layout,
    planes,
    read_codes,
    whole_samples,
    write_codes,
)

_NEAR_BLACK = 0.05  # signal; range over which negative R'G'B' fades out


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
        plane = planes(self._planar())[0]
        if self.depth > 8:
            plane = np.right_shift(plane, self.depth - 8)
        return torch.from_numpy(plane.astype(np.uint8, order="C"))

    def with_linear(self, image: Tensor) -> VideoPicture:
        """A frame of the same format, tags and side data with the pixels of `image`, [3, H, W] linear RGB."""
        frame = blank_like(self._planar())
        write_codes(frame, _to_codes(_to_signal(image, self.signal(), self.spec), self.spec))
        return VideoPicture(frame, unmodified=False)

    def linear_in(self, box: Box) -> Tensor:
        """[3, h, w] the pixels of `linear` in a box."""
        return to_linear_(self._signal_in(box), self.spec.transfer)

    def with_linear_in(self, box: Box, image: Tensor, mask: Tensor) -> VideoPicture:
        """`with_linear` for the pixels of a box where `mask`, [h, w] bool, is true; `image` is [3, h, w]."""
        outer = whole_samples(box.widen(DECIMATION_REACH, self.size), self.size)
        rows, columns = box.shift(-outer.left, -outer.top).slices((outer.height, outer.width))
        decoded = self._signal_in(outer)
        light = to_linear(decoded, self.spec.transfer)
        inside = light[:, rows, columns]
        inside.copy_(torch.where(mask.cpu(), image.detach().cpu().float(), inside))
        changed = np.zeros(light.shape[1:], bool)
        changed[rows, columns] = mask.cpu().numpy()
        frame = copy_of(self._planar())
        codes = _to_codes(_to_signal(light, decoded, self.spec), self.spec)
        overwrite_codes(frame, outer, codes, changed)
        return VideoPicture(frame, unmodified=False)

    def _planar(self) -> VideoFrame:
        if self.frame.format.name == self.layout.pix_fmt:
            return self.frame
        return self.frame.reformat(format=self.layout.pix_fmt, threads=THREADS)

    def signal(self) -> Tensor:
        """[3, H, W] R'G'B'; negative for code values outside the RGB gamut."""
        height, width = self.size
        return self._signal_in(Box(left=0, top=0, right=width, bottom=height))

    def _signal_in(self, box: Box) -> Tensor:
        gain, offset = self.spec.decoder
        codes = read_codes(self._planar(), box)
        return torch.addmm(offset, gain, codes.view(3, -1)).view(codes.shape)


def _to_signal(image: Tensor, decoded: Tensor, spec: ColorSpec) -> Tensor:
    """[3, h, w] R'G'B' of linear RGB that replaces `decoded` R'G'B', whose content is undefined afterwards.

    Where the image is dark, it gets the negative part of R'G'B' that `linear` clips: saturated colours and
    noisy shadows have code values outside the gamut. Without them a processed region would change its tint.
    """
    signal = to_encoded(image.detach().cpu().float(), spec.transfer)
    fade = (1 - signal / _NEAR_BLACK).clamp_(0, 1)
    return signal.add_(decoded.clamp_(max=0).mul_(fade))


def _to_codes(signal: Tensor, spec: ColorSpec) -> Tensor:
    """[3, h, w] code values, not rounded, of R'G'B'."""
    gain, offset = spec.encoder
    return torch.addmm(offset, gain, signal.reshape(3, -1)).view(signal.shape)


def convert_format(picture: VideoPicture, pix_fmt: str) -> VideoFrame:
    """The frame in another pixel format, with the same range and matrix; RGB becomes BT.709."""
    if picture.frame.format.name == pix_fmt:
        return picture.frame
    if picture.layout.rgb and not planar_layout(pix_fmt).rgb:
        return _rgb_to_bt709(picture, pix_fmt)
    span = FULL if picture.spec.full else 1
    return picture.frame.reformat(format=pix_fmt, src_color_range=span, dst_color_range=span, threads=THREADS)


def _rgb_to_bt709(picture: VideoPicture, pix_fmt: str) -> VideoFrame:
    height, width = picture.size
    frame = VideoFrame(width, height, pix_fmt)
    frame.colorspace, frame.color_range = 1, 1
    frame.color_primaries, frame.color_trc = picture.frame.color_primaries, picture.frame.color_trc
    write_codes(frame, _to_codes(picture.signal(), color_spec(frame)))
    return frame


def frame_from_linear(image: Tensor, *, depth: int) -> VideoFrame:
    """A BT.709 frame of 8 or 10 bits from [3, H, W] linear RGB; odd sizes are written as 4:4:4."""
    height, width = image.shape[1:]
    stem = "yuv444p" if height % 2 or width % 2 else "yuv420p"
    frame = VideoFrame(width, height, stem + ("10le" if depth > 8 else ""))
    frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range = 1, 1, 1, 1
    spec = color_spec(frame)
    write_codes(frame, _to_codes(to_encoded(image.detach().cpu().float(), spec.transfer), spec))
    return frame


def flatten_samples(picture: VideoPicture) -> npt.NDArray[np.generic]:
    """All samples of a picture, plane by plane, [n] uint8 or uint16."""
    return np.concatenate([plane.ravel() for plane in planes(picture._planar())])


def with_samples(template: VideoPicture, samples: npt.NDArray[np.generic]) -> VideoPicture:
    """The inverse of `flatten_samples`: a picture with the format, tags and side data of `template`."""
    frame, first = blank_like(template._planar()), 0
    for plane in planes(frame):
        np.copyto(plane, samples[first : first + plane.size].reshape(plane.shape), casting="no")
        first += plane.size
    return VideoPicture(frame, unmodified=False)
