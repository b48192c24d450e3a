"""The first run of a newcomer: the shipped sample, what was gained on it, and where to look.

Nothing here takes a gradient.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from freezeframe.data.media.files.publish import Claim, claim
from freezeframe.data.media.photo.files import read_photo
from freezeframe.data.media.video_in.source import open_video
from freezeframe.data.metrics.image import psnr, srgb_codes, ssim
from freezeframe.data.samples import sample_burst, sample_burst_truth, sample_clip, sample_truth
from freezeframe.pipeline.config import Config, OutputConfig, preset
from freezeframe.pipeline.support.media import open_source
from freezeframe.pipeline.support.progress import Advance, quiet
from freezeframe.pipeline.support.report import Report
from freezeframe.pipeline.tasks.batch import place
from freezeframe.pipeline.tasks.burst import deblur_burst
from freezeframe.pipeline.tasks.video import deblur_video

DETAIL = (360, 640)  # pixels that a detail shows at most, height and width
BESIDE = ("report.json", "before_after.png")  # what lies beside a clip's result
SAMPLES = ("sports.mp4", "burst.png", "burst_before_after.png", *BESIDE)
SEAM = 4  # pixels of white between before and after


def demo(clip: Path | None, folder: Path, *, force: bool = False, progress: Advance = quiet) -> str:
    """Deblur the sample clip and the sample burst (or `clip` alone) into `folder`; tell what came of it."""
    if clip is not None:
        open_source(clip, OutputConfig())
    names = SAMPLES if clip is None else (place(Path(f"sharp_{clip.name}")).name, *BESIDE)
    inputs = [] if clip is None else [clip]
    places = {name: claim(folder / name, inputs=inputs, force=force, trial=True) for name in names}
    if clip is None:
        return "\n\n".join([_sample_clip(places, progress, force=force), _sample_burst(places, force=force)])
    return _told(clip, places[names[0]].path, places, progress, force=force)


def before_after(before: Tensor, after: Tensor, path: Path, *, zoom: int = 1) -> Path:
    """Write two [3, H, W] linear RGB pictures side by side as sRGB PNG."""
    claim(path).write(side_by_side(before, after, zoom=zoom))
    return path


def side_by_side(before: Tensor, after: Tensor, *, zoom: int = 1) -> bytes:
    """Two [3, H, W] linear RGB pictures as an sRGB PNG, the seam white between them."""
    left, right = srgb_codes(before), srgb_codes(after)
    shown = [
        cv2.resize(codes, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC) for codes in (left, right)
    ]
    seam = np.full((shown[0].shape[0], SEAM, 3), 255, np.uint8)
    _, coded = cv2.imencode(".png", np.concatenate([shown[0], seam, shown[1]], axis=1)[..., ::-1])
    return coded.tobytes()


def most_changed(before: Tensor, after: Tensor) -> tuple[slice, slice]:
    """Rows and columns of the quarter of a frame that changed most, no larger than `DETAIL`."""
    change = (after - before).abs().mean(0).numpy()
    height, width = (min(most, size // 2) for most, size in zip(DETAIL, change.shape, strict=True))
    mean = cv2.boxFilter(change, -1, (width, height), anchor=(0, 0), borderType=cv2.BORDER_REPLICATE)
    inside = mean[: change.shape[0] - height + 1, : change.shape[1] - width + 1]
    y, x = (int(at) for at in np.unravel_index(int(inside.argmax()), inside.shape))
    return slice(y, y + height), slice(x, x + width)


def frame_at(path: Path, number: int) -> Tensor:
    """Frame `number` of a clip or folder, [3, H, W] linear RGB."""
    source = open_source(path, OutputConfig())
    return next(frame.picture.linear() for frame in source.frames(first=number))


def _sample_clip(places: Mapping[str, Claim], progress: Advance, *, force: bool) -> str:
    output = places["sports.mp4"].path
    told = _told(sample_clip(), output, places, progress, force=force)
    rows = [
        (psnr(b, t), psnr(a, t), ssim(b, t), ssim(a, t))
        for b, a, t in zip(*map(_pictures, (sample_clip(), output, sample_truth())), strict=True)
    ]
    return f"{_gain('sample clip', rows)}\n\n{told}"


def _sample_burst(places: Mapping[str, Claim], *, force: bool) -> str:
    output = places["burst.png"].path
    result = deblur_burst(sample_burst(), output, config=_replacing(preset("burst"), force))
    inputs = [read_photo(path).linear() for path in sample_burst()]
    # Each photo is aimed differently: its truth has its framing, the result that of its reference.
    truths = [read_photo(sample_burst_truth(number)).linear() for number in range(len(inputs))]
    best = sample_burst().index(result.reference)
    after = psnr(result.image, truths[best]), ssim(result.image, truths[best])
    rows = [
        (psnr(image, truth), after[0], ssim(image, truth), after[1])
        for image, truth in zip(inputs, truths, strict=True)
    ]
    detail = (..., *most_changed(inputs[best], result.image))
    picture = places["burst_before_after.png"]
    picture.write(side_by_side(inputs[best][detail], result.image[detail], zoom=2))
    where = _places({"result": output, "before | after": picture.path})
    return f"{_gain(f'sample burst of {len(inputs)} photos', rows)}\n\n{where}"


def _told(clip: Path, output: Path, places: Mapping[str, Claim], progress: Advance, *, force: bool) -> str:
    """Deblur one clip; what was done, what was kept and where everything lies."""
    report = deblur_video(clip, output, config=_replacing(preset("auto"), force), progress=progress)
    report.save(places["report.json"].path, force=force)
    picture = places["before_after.png"]
    picture.write(_picture(report, clip, output))
    parts = [report.text()]
    if report.plumbing:
        parts.append("kept as it was:\n" + textwrap.indent(report.plumbing.text(), "  "))
    parts.append(
        _places({"result": output, "before | after": picture.path, "report": places["report.json"].path})
    )
    return "\n\n".join(parts)


def _picture(report: Report, clip: Path, output: Path) -> bytes:
    """A detail of the most blurred frame, before and after, as PNG."""
    strongest = max(report.verdicts, key=lambda verdict: verdict.blur, default=None)
    number = strongest.index if strongest else 0
    before, after = frame_at(clip, number), frame_at(output, number)
    detail = (..., *most_changed(before, after))
    return side_by_side(before[detail], after[detail], zoom=2)


def _places(where: dict[str, Path]) -> str:
    return "\n".join(f"{what:<14}  {path}" for what, path in where.items())


def _replacing(config: Config, force: bool) -> Config:
    return replace(config, output=replace(config.output, force=force))


def _gain(what: str, rows: Sequence[tuple[float, float, float, float]]) -> str:
    before, after, like_before, like_after = np.mean(rows, axis=0).tolist()
    return (
        f"{what}, against its known truth: {after - before:+.2f} dB"
        f" (PSNR {before:.2f} -> {after:.2f} dB, SSIM {like_before:.4f} -> {like_after:.4f})"
    )


def _pictures(path: Path) -> Iterator[Tensor]:
    return (frame.picture.linear() for frame in open_video(path).frames())
