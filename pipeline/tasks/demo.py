"""The demo: the sample clips and burst of the package, deblurred, with their gain over the ground truth.

Nothing here takes a gradient.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from freezeframe.data.media.files.publish import Claim, claim
from freezeframe.data.media.photo.files import read_photo
from freezeframe.data.media.video_in.source import open_video
from freezeframe.data.metrics.image import psnr, ssim
from freezeframe.data.metrics.movers import mover_mask, static_background
from freezeframe.data.samples import (
    ClipName,
    sample_burst,
    sample_burst_truth,
    sample_clip,
    sample_truth,
)
from freezeframe.data.srgb import linear_to_srgb
from freezeframe.pipeline.config import Config, OutputConfig, preset
from freezeframe.pipeline.support.crops import largest_mean_window
from freezeframe.pipeline.support.media import open_source
from freezeframe.pipeline.support.progress import ProgressCallback, null_progress
from freezeframe.pipeline.support.report import Report

from .batch import resolve_output
from .burst import deblur_burst
from .video import deblur_video

MAX_DETAIL_PX = (360, 640)  # largest height and width of a detail, in pixels
SIDE_OUTPUTS = ("report.json", "before_after.png")  # written beside the result of a clip
CLIPS: tuple[ClipName, ...] = ("handball", "sports")  # in the order of the demo
STILL_CAMERA: tuple[ClipName, ...] = ("handball",)  # the median of whose frames is the background
SAMPLES = (
    *(name for clip in CLIPS for name in (f"{clip}.mp4", *(f"{clip}_{side}" for side in SIDE_OUTPUTS))),
    "burst.png",
    "burst_before_after.png",
)
SEAM_PX = 4  # width in pixels of the white seam between before and after


def demo(
    clip: Path | None, folder: Path, *, force: bool = False, progress: ProgressCallback = null_progress
) -> str:
    """Deblur the sample clips and the sample burst, or `clip` alone, into `folder`.

    Returns:
        The gains, the report and the paths, as text.

    Raises:
        FreezeframeError: `clip` cannot be read, or an output exists (without force) or cannot be written.
    """
    if clip is not None:
        open_source(clip, OutputConfig())
    names = SAMPLES if clip is None else (resolve_output(Path(f"sharp_{clip.name}")).name, *SIDE_OUTPUTS)
    inputs = [] if clip is None else [clip]
    claims = {name: claim(folder / name, inputs=inputs, force=force, trial=True) for name in names}
    if clip is None:
        clips = [_sample_clip(name, claims, progress, force=force) for name in CLIPS]
        return "\n\n".join([*clips, _sample_burst(claims, force=force)])
    outputs = _ClipOutputs(*(claims[name] for name in names))
    return _deblur_and_report(clip, outputs, progress, force=force)


def before_after(before: Tensor, after: Tensor, path: Path, *, zoom: int = 1) -> Path:
    """Write two [3, H, W] linear RGB images side by side as sRGB PNG; `zoom` enlarges them."""
    claim(path).write(side_by_side(before, after, zoom=zoom))
    return path


def side_by_side(before: Tensor, after: Tensor, *, zoom: int = 1) -> bytes:
    """Two [3, H, W] linear RGB images as an sRGB PNG, with a white seam between them."""
    panels = [
        cv2.resize(linear_to_srgb(image), None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
        for image in (before, after)
    ]
    seam = np.full((panels[0].shape[0], SEAM_PX, 3), 255, np.uint8)
    _, png = cv2.imencode(".png", np.concatenate([panels[0], seam, panels[1]], axis=1)[..., ::-1])
    return png.tobytes()


def most_changed(before: Tensor, after: Tensor) -> tuple[slice, slice]:
    """Rows and columns of the quarter of a frame that changed most, at most `MAX_DETAIL_PX`."""
    change = (after - before).square().mean(0).numpy()  # squared: noise in all places weighs little
    height, width = (min(limit, side // 2) for limit, side in zip(MAX_DETAIL_PX, change.shape, strict=True))
    return largest_mean_window(change, (height, width))


def frame_at(path: Path, number: int) -> Tensor:
    """Frame `number` of a clip or folder, [3, H, W] linear RGB."""
    source = open_source(path, OutputConfig())
    return next(frame.picture.linear() for frame in source.frames(first=number))


@dataclass(frozen=True, slots=True)
class _ClipOutputs:
    """Where the result of a clip and its side outputs are written."""

    result: Claim
    report: Claim
    picture: Claim


def _sample_clip(
    name: ClipName, claims: Mapping[str, Claim], progress: ProgressCallback, *, force: bool
) -> str:
    outputs = _ClipOutputs(claims[f"{name}.mp4"], *(claims[f"{name}_{side}"] for side in SIDE_OUTPUTS))
    blurred, truth = sample_clip(name), sample_truth(name)
    report_text = _deblur_and_report(blurred, outputs, progress, truth=truth, force=force)
    gains = _clip_gains(name, outputs.result.path)
    return f"{gains}\n\n{report_text}"


def _clip_gains(name: ClipName, output: Path) -> str:
    """The gain over whole frames and, with a still camera, where the movers and their blur are."""
    rows = [
        (psnr(b, t), psnr(a, t), ssim(b, t), ssim(a, t))
        for b, a, t in zip(*map(_pictures, (sample_clip(name), output, sample_truth(name))), strict=True)
    ]
    gains = [_gain(f"sample clip {name}", rows)]
    if name in STILL_CAMERA:
        gains.append(_format_psnr(f"sample clip {name}, movers only", *_mover_psnr(name, output)))
    return "\n".join(gains)


def _mover_psnr(name: ClipName, output: Path) -> tuple[float, float]:
    """PSNR of a sample clip and of its deblurred `output` inside `mover_mask`, mean over the frames."""
    background = static_background(torch.stack(list(_pictures(sample_truth(name)))))
    rows = []
    for b, a, t in zip(*map(_pictures, (sample_clip(name), output, sample_truth(name))), strict=True):
        mask = mover_mask(b, t, background)
        before, after, truth = (image[:, mask][:, None] for image in (b, a, t))
        rows.append((psnr(before, truth), psnr(after, truth)))
    before_mean, after_mean = np.mean(rows, axis=0).tolist()
    return before_mean, after_mean


def _sample_burst(claims: Mapping[str, Claim], *, force: bool) -> str:
    output = claims["burst.png"].path
    result = deblur_burst(sample_burst(), output, config=_with_force(preset("auto"), force))
    inputs = [read_photo(path).linear() for path in sample_burst()]
    # Each ground truth has the framing of its photo, the result that of the reference.
    truths = [read_photo(sample_burst_truth(number)).linear() for number in range(len(inputs))]
    best = sample_burst().index(result.reference)
    after = psnr(result.image, truths[best]), ssim(result.image, truths[best])
    rows = [
        (psnr(image, truth), after[0], ssim(image, truth), after[1])
        for image, truth in zip(inputs, truths, strict=True)
    ]
    detail = (..., *most_changed(inputs[best], result.image))
    picture = claims["burst_before_after.png"]
    picture.write(side_by_side(inputs[best][detail], result.image[detail], zoom=2))
    paths_text = _format_paths({"result": output, "before | after": picture.path})
    return f"{_gain(f'sample burst of {len(inputs)} photos', rows)}\n\n{paths_text}"


def _deblur_and_report(
    clip: Path, outputs: _ClipOutputs, progress: ProgressCallback, *, truth: Path | None = None, force: bool
) -> str:
    """Deblur one clip; its report, verification and paths, as text."""
    output, picture, report_path = outputs.result.path, outputs.picture, outputs.report.path
    report = deblur_video(clip, output, config=_with_force(preset("auto"), force), progress=progress)
    report.save(report_path, force=force)
    picture.write(_picture(report, clip, output, truth=truth))
    parts = [report.text()]
    if report.verification:
        parts.append("verification of the output:\n" + textwrap.indent(report.verification.text(), "  "))
    parts.append(_format_paths({"result": output, "before | after": picture.path, "report": report_path}))
    return "\n\n".join(parts)


def _picture(report: Report, clip: Path, output: Path, *, truth: Path | None) -> bytes:
    """A detail of the frame with the most blur, before and after, as PNG.

    It is the detail that differs most from the truth or, without one, that changed most.
    """
    most_blurred = max(report.verdicts, key=lambda verdict: verdict.blur, default=None)
    number = most_blurred.index if most_blurred else 0
    before, after = frame_at(clip, number), frame_at(output, number)
    detail = (..., *most_changed(before, after if truth is None else frame_at(truth, number)))
    return side_by_side(before[detail], after[detail], zoom=2)


def _format_paths(paths: dict[str, Path]) -> str:
    return "\n".join(f"{label:<14}  {path}" for label, path in paths.items())


def _with_force(config: Config, force: bool) -> Config:
    return replace(config, output=replace(config.output, force=force))


def _gain(label: str, rows: Sequence[tuple[float, float, float, float]]) -> str:
    before, after, ssim_before, ssim_after = np.mean(rows, axis=0).tolist()
    return f"{_format_psnr(label, before, after)}, SSIM {ssim_before:.4f} -> {ssim_after:.4f}"


def _format_psnr(label: str, before: float, after: float) -> str:
    return f"{label}, against its ground truth: {after - before:+.2f} dB, PSNR {before:.2f} -> {after:.2f} dB"


def _pictures(path: Path) -> Iterator[Tensor]:
    return (frame.picture.linear() for frame in open_video(path).frames())
