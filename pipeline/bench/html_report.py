"""The compare page: crops at full size of every method side by side, in one HTML file."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from freezeframe.data.datasets.paired import FrameSequence
from freezeframe.data.srgb import SrgbImage

from .methods import INPUT, read
from .scoring import PSNR_CAP_DB, Metrics

CROP_SIZE_PX = 224  # pixels of a crop


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """One place of one frame, as every method shows it."""

    title: str
    gain: float  # dB of the method that is judged
    pictures: Mapping[str, bytes]  # PNG, by method
    decibels: Mapping[str, float]  # of the whole frame, by method


def select_crops(
    sequence: FrameSequence,
    outputs: Mapping[str, Sequence[Path]],
    metrics: Mapping[str, Sequence[Metrics]],
    *,
    by: str,
) -> list[Crop]:
    """The frames of a take where the method `by` gains least and most, where they were blurred most."""
    gains = [one["psnr"] - none["psnr"] for one, none in zip(metrics[by], metrics[INPUT], strict=True)]
    extremes = sorted({int(np.argmin(gains)), int(np.argmax(gains))}, key=lambda frame: gains[frame])
    return [_make_crop(sequence, outputs, metrics, frame=frame, gain=gains[frame]) for frame in extremes]


def render_html(title: str, table_text: str, crops: Sequence[Crop]) -> str:
    """Everything in one file that needs no other."""
    body = "\n".join(_render_crop(crop) for crop in crops)
    return (
        f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title><style>"
        "body{font:14px system-ui;margin:24px;background:#222;color:#ddd}"
        "section{display:flex;flex-wrap:wrap;gap:8px}figure{margin:0}figcaption{font-size:12px}"
        "img{display:block;image-rendering:pixelated}pre{overflow:auto}</style>"
        f"<h1>{html.escape(title)}</h1><pre>{html.escape(table_text)}</pre>"
        "<p>Crops at full size of the frames where freezeframe gains least and most.</p>"
        f"{body}\n"
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
        decibels={name: each[frame]["psnr"] for name, each in metrics.items()},
    )


def _render_crop(crop: Crop) -> str:
    figures_html = "".join(
        f'<figure><img alt="{html.escape(name)}" src="data:image/png;base64,{_text(png)}">'
        f"<figcaption>{html.escape(name)}<br>{_decibel(crop.decibels[name])}</figcaption></figure>"
        for name, png in crop.pictures.items()
    )
    return f"<h2>{html.escape(crop.title)}: {crop.gain:+.2f} dB</h2><section>{figures_html}</section>"


def _most_blurred_window(blurred: SrgbImage, truth: SrgbImage) -> tuple[slice, slice]:
    """Where the two differ most over a crop's area."""
    height, width = blurred.shape[:2]
    tall, wide = min(CROP_SIZE_PX, height), min(CROP_SIZE_PX, width)
    error = np.abs(blurred.astype(np.float32) - truth.astype(np.float32)).mean(2)
    mean = cv2.boxFilter(error, -1, (wide, tall), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    valid = mean[: height - tall + 1, : width - wide + 1]
    top, left = np.unravel_index(int(np.argmax(valid)), valid.shape)
    return slice(int(top), int(top) + tall), slice(int(left), int(left) + wide)


def _png(encoded: SrgbImage) -> bytes:
    _, png = cv2.imencode(".png", np.ascontiguousarray(encoded[..., ::-1]))
    return png.tobytes()


def _text(png: bytes) -> str:
    return base64.b64encode(png).decode()


def _decibel(value: float) -> str:
    return "" if value >= PSNR_CAP_DB else f"{value:.2f} dB"
