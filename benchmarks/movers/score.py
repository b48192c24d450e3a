"""Scores of a clip inside and outside the masks of its movers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from freezeframe.data.metrics.temporal import sharpness_flicker, smoothed_gradient
from freezeframe.data.srgb import SrgbImage, linear_to_srgb

from .runs import Run
from .scenes import MoverClip

Mask = npt.NDArray[np.bool_]  # [H, W]
MIN_PIXELS = 16  # of a region that is scored


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameScore:
    """Scores of one frame; NaN in a region of fewer than `MIN_PIXELS`."""

    inside: tuple[float, float]  # dB, PSNR before and after
    outside: tuple[float, float]  # dB
    chroma: tuple[float, float]  # code values, error inside before and after
    detected: bool  # a sample inside differs from the input
    changed_outside: int  # pixels

    @property
    def gain(self) -> float:
        """Gain inside, dB."""
        return self.inside[1] - self.inside[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipScore:
    """Scores of the frames of one clip, and the time that they took."""

    name: str
    frames: tuple[FrameScore, ...]
    seconds: float
    flicker: tuple[float, float]  # nepers, inside, before and after

    @property
    def gain(self) -> float:
        """Mean gain inside, dB."""
        return mean([frame.gain for frame in self.frames])

    @property
    def worst_frame(self) -> float:
        """Smallest gain inside of a frame, dB."""
        return min((f.gain for f in self.frames if not math.isnan(f.gain)), default=math.nan)


def score_clip(clip: MoverClip, run: Run) -> ClipScore:
    """Compare what the command read and wrote with the truth.

    Raises:
        ValueError: The output has more or fewer frames than the clip.
    """
    truths = [linear_to_srgb(image) for image in clip.sharp]
    masks = [mask.numpy() for mask in clip.masks]
    frames = zip(truths, masks, run.before, run.after, strict=True)
    return ClipScore(
        name=clip.name,
        frames=tuple(score_frame(*frame) for frame in frames),
        seconds=run.seconds,
        flicker=(flicker_in(run.before, truths, masks), flicker_in(run.after, truths, masks)),
    )


def flicker_in(images: Sequence[SrgbImage], truths: Sequence[SrgbImage], masks: Sequence[Mask]) -> float:
    """`sharpness_flicker` of consecutive frames inside their masks, nepers.

    The sharpness is that of a frame over that of its truth: objects turn and masks change their size.
    """
    return sharpness_flicker(
        [
            sharpness_in(image, mask) / sharpness_in(truth, mask)
            for image, truth, mask in zip(images, truths, masks, strict=True)
        ]
    )


def sharpness_in(image: SrgbImage, region: Mask) -> float:
    """`smoothed_gradient` of the luma in `region`."""
    if region.sum() < MIN_PIXELS:
        return math.nan
    return smoothed_gradient(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.uint8), region)


def score_frame(truth: SrgbImage, mask: Mask, before: SrgbImage, after: SrgbImage) -> FrameScore:
    """Scores of one frame inside and outside `mask`."""
    return FrameScore(
        inside=(psnr_in(before, truth, mask), psnr_in(after, truth, mask)),
        outside=(psnr_in(before, truth, ~mask), psnr_in(after, truth, ~mask)),
        chroma=(chroma_error(before, truth, mask), chroma_error(after, truth, mask)),
        detected=changed_pixels(before, after, mask) > 0,
        changed_outside=changed_pixels(before, after, ~mask),
    )


def psnr_in(image: SrgbImage, truth: SrgbImage, region: Mask) -> float:
    """PSNR in dB of all channels of 8-bit sRGB in `region`."""
    if region.sum() < MIN_PIXELS:
        return math.nan
    error = float(np.mean(_difference(image, truth, region) ** 2))
    return 10 * math.log10(255**2 / error) if error > 0 else math.inf


def chroma_error(image: SrgbImage, truth: SrgbImage, region: Mask) -> float:
    """RMS difference of Cb and Cr (BT.709) in `region`, in 8-bit code values."""
    if region.sum() < MIN_PIXELS:
        return math.nan
    red, green, blue = _difference(image, truth, region).T
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return float(np.sqrt(np.mean([((blue - luma) / 1.8556) ** 2, ((red - luma) / 1.5748) ** 2])))


def changed_pixels(before: SrgbImage, after: SrgbImage, region: Mask) -> int:
    """Number of pixels of `region` of which a sample differs."""
    return int(((before != after).any(-1) & region).sum())


def mean(values: Sequence[float]) -> float:
    """Mean of the values that are no NaN; NaN if there are none."""
    present = [value for value in values if not math.isnan(value)]
    return sum(present) / len(present) if present else math.nan


def _difference(image: SrgbImage, truth: SrgbImage, region: Mask) -> npt.NDArray[np.float64]:
    """[N, 3] difference of the code values in `region`."""
    return image[region].astype(np.float64) - truth[region]
