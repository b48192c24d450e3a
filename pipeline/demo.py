"""The first run of a newcomer: the shipped sample, what was gained on it, and where to look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from ..data.metrics import psnr, ssim
from ..data.photos import read_photo
from ..data.samples import sample_burst, sample_burst_truth, sample_clip, sample_truth
from ..data.video import open_video
from .api import deblur_burst, deblur_video
from .config import Config, preset
from .progress import Advance, quiet
from .report import Report


def demo(clip: Path | None, folder: Path, *, progress: Advance = quiet) -> str:
    """Deblur the sample clip and the sample burst (or `clip` alone) into `folder`; tell what came of it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = _replacing(preset("auto"))
    if clip is not None:
        output = folder / f"sharp_{clip.name}"
        return _told(deblur_video(clip, output, config=config, progress=progress), output, clip, folder)
    output = folder / "sports.mp4"
    report = deblur_video(sample_clip(), output, config=config, progress=progress)
    parts = [
        _told(report, output, sample_clip(), folder),
        _gain_on_clip(sample_clip(), output, sample_truth()),
        _gain_on_burst(folder),
    ]
    return "\n\n".join(parts)


def before_after(before: Tensor, after: Tensor, path: Path, *, zoom: int = 1) -> Path:
    """Write two [3, H, W] linear RGB pictures side by side as sRGB PNG."""
    pair = np.concatenate([_codes(before), _codes(after)], axis=1)
    shown = cv2.resize(pair, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_NEAREST)
    cv2.imwrite(str(path), shown[..., ::-1])
    return path


def frame_at(path: Path, number: int) -> Tensor:
    """Frame `number` of a clip, [3, H, W] linear RGB."""
    source = open_video(path)
    return next(frame.picture.linear() for frame in source.frames(first=number))


def _replacing(config: Config) -> Config:
    # The demo is run again and again; its folder holds nothing but its own results.
    return replace(config, output=replace(config.output, force=True))


def _told(report: Report, output: Path, clip: Path, folder: Path) -> str:
    report.save(folder / "report.json")
    strongest = max(report.verdicts, key=lambda verdict: verdict.blur)
    picture = before_after(
        frame_at(clip, strongest.index), frame_at(output, strongest.index), folder / "before_after.png"
    )
    sheet = report.plumbing.text() if report.plumbing else ""
    places = f"result        {output}\nbefore/after  {picture}\nreport        {folder / 'report.json'}"
    return "\n".join([report.text(), "", sheet, "", places])


def _gain_on_clip(before: Path, after: Path, truth: Path) -> str:
    rows = [
        (psnr(b, t), psnr(a, t), ssim(b, t), ssim(a, t))
        for b, a, t in zip(*(_pictures(path) for path in (before, after, truth)), strict=True)
    ]
    return _gain("clip against its known truth", rows)


def _gain_on_burst(folder: Path) -> str:
    output = folder / "burst.png"
    result = deblur_burst(sample_burst(), output, config=_replacing(preset("burst")))
    truth = read_photo(sample_burst_truth()).linear()
    inputs = [read_photo(path).linear() for path in sample_burst()]
    after_psnr, after_ssim = psnr(result.image, truth), ssim(result.image, truth)
    rows = [(psnr(image, truth), after_psnr, ssim(image, truth), after_ssim) for image in inputs]
    return f"{_gain('burst against its known truth', rows)}\nresult        {output}"


def _gain(what: str, rows: Sequence[tuple[float, float, float, float]]) -> str:
    before, after, like_before, like_after = np.mean(rows, axis=0).tolist()
    return (
        f"{what}: PSNR {before:.2f} -> {after:.2f} dB ({after - before:+.2f}),"
        f" SSIM {like_before:.4f} -> {like_after:.4f}"
    )


def _pictures(path: Path) -> Iterator[Tensor]:
    return (frame.picture.linear() for frame in open_video(path).frames())


def _codes(image: Tensor) -> np.ndarray:
    coded = image.clamp(0, 1).pow(1 / 2.2).mul(255).add(0.5).byte()
    pixels: np.ndarray = coded.permute(1, 2, 0).contiguous().numpy()
    return pixels
