"""The compare page: full-size crops of every method side by side, in one self-contained HTML file."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

import cv2
import numpy as np

from freezeframe.data.datasets.paired import FrameSequence
from freezeframe.data.srgb import SrgbImage
from freezeframe.pipeline.support.crops import largest_mean_window

from .methods import INPUT, read
from .scoring import PSNR_CAP_DB, Metrics

CROP_SIZE_PX = 224  # side of a crop in pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """One crop of one frame, from every method."""

    title: str
    gain: float  # PSNR gain in dB of the scored method
    pictures: Mapping[str, bytes]  # PNG by method
    psnr_db: Mapping[str, float]  # PSNR of the whole frame in dB, by method


def select_crops(
    sequence: FrameSequence,
    outputs: Mapping[str, Sequence[Path]],
    metrics: Mapping[str, Sequence[Metrics]],
    *,
    by: str,
) -> list[Crop]:
    """Crops of the frames of a sequence where the method `by` gains least and most, at the largest blur."""
    gains = [
        one["psnr"] - baseline["psnr"] for one, baseline in zip(metrics[by], metrics[INPUT], strict=True)
    ]
    extremes = sorted({int(np.argmin(gains)), int(np.argmax(gains))}, key=lambda frame: gains[frame])
    return [_make_crop(sequence, outputs, metrics, frame=frame, gain=gains[frame]) for frame in extremes]


def render_html(title: str, table_text: str, crops: Sequence[Crop]) -> str:
    """The page as HTML."""
    template = Template(files(__package__).joinpath("compare.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=html.escape(title),
        table=html.escape(table_text),
        crops="\n".join(_render_crop(crop) for crop in crops),
    )


def _make_crop(
    sequence: FrameSequence,
    outputs: Mapping[str, Sequence[Path]],
    metrics: Mapping[str, Sequence[Metrics]],
    *,
    frame: int,
    gain: float,
) -> Crop:
    truths = sequence.truths[frame]
    window = _most_blurred_window(read(sequence.blurred[frame]), read(truths[len(truths) // 2]))
    return Crop(
        title=f"{sequence.name}, frame {frame}",
        gain=gain,
        pictures={name: _png(read(paths[frame])[window]) for name, paths in outputs.items()},
        psnr_db={name: each[frame]["psnr"] for name, each in metrics.items()},
    )


def _render_crop(crop: Crop) -> str:
    figures_html = "".join(
        f'<figure><img alt="{html.escape(name)}" src="data:image/png;base64,{_base64(png)}">'
        f"<figcaption>{html.escape(name)}<br>{_format_db(crop.psnr_db[name])}</figcaption></figure>"
        for name, png in crop.pictures.items()
    )
    return f"<h2>{html.escape(crop.title)}: {crop.gain:+.2f} dB</h2><section>{figures_html}</section>"


def _most_blurred_window(blurred: SrgbImage, truth: SrgbImage) -> tuple[slice, slice]:
    """Rows and columns of the crop with the largest mean absolute error."""
    error = np.abs(blurred.astype(np.float32) - truth.astype(np.float32)).mean(2)
    return largest_mean_window(error, (CROP_SIZE_PX, CROP_SIZE_PX))


def _png(encoded: SrgbImage) -> bytes:
    _, png = cv2.imencode(".png", np.ascontiguousarray(encoded[..., ::-1]))
    return png.tobytes()


def _base64(png: bytes) -> str:
    return base64.b64encode(png).decode()


def _format_db(value: float) -> str:
    return "" if value >= PSNR_CAP_DB else f"{value:.2f} dB"
