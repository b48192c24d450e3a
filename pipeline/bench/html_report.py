"""The compare page: crops at full size of every method side by side, in one HTML file."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from freezeframe.data.datasets.paired import Take
from freezeframe.data.metrics.image import Codes

from .methods import INPUT, read
from .scoring import PERFECT, Figures

SIDE = 224  # pixels of a crop


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """One place of one frame, as every method shows it."""

    title: str
    gain: float  # dB of the method that is judged
    pictures: Mapping[str, bytes]  # PNG, by method
    decibels: Mapping[str, float]  # of the whole frame, by method


def cuts(
    take: Take, found: Mapping[str, Sequence[Path]], figures: Mapping[str, Sequence[Figures]], *, by: str
) -> list[Crop]:
    """The frames of a take where the method `by` gains least and most, where they were blurred most."""
    gains = [one["psnr"] - none["psnr"] for one, none in zip(figures[by], figures[INPUT], strict=True)]
    ends = sorted({int(np.argmin(gains)), int(np.argmax(gains))}, key=lambda frame: gains[frame])
    return [_cut(take, found, figures, frame=frame, gain=gains[frame]) for frame in ends]


def page(title: str, told: str, crops: Sequence[Crop]) -> str:
    """Everything in one file that needs no other."""
    body = "\n".join(_strip(crop) for crop in crops)
    return (
        f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title><style>"
        "body{font:14px system-ui;margin:24px;background:#222;color:#ddd}"
        "section{display:flex;flex-wrap:wrap;gap:8px}figure{margin:0}figcaption{font-size:12px}"
        "img{display:block;image-rendering:pixelated}pre{overflow:auto}</style>"
        f"<h1>{html.escape(title)}</h1><pre>{html.escape(told)}</pre>"
        "<p>Crops at full size of the frames where freezeframe gains least and most.</p>"
        f"{body}\n"
    )


def _cut(
    take: Take,
    found: Mapping[str, Sequence[Path]],
    figures: Mapping[str, Sequence[Figures]],
    *,
    frame: int,
    gain: float,
) -> Crop:
    truths = take.truths[frame]
    place = _busiest(read(take.blurred[frame]), read(truths[len(truths) // 2]))
    return Crop(
        title=f"{take.name}, frame {frame}",
        gain=gain,
        pictures={name: _png(read(paths[frame])[place]) for name, paths in found.items()},
        decibels={name: each[frame]["psnr"] for name, each in figures.items()},
    )


def _strip(crop: Crop) -> str:
    shown = "".join(
        f'<figure><img alt="{html.escape(name)}" src="data:image/png;base64,{_text(png)}">'
        f"<figcaption>{html.escape(name)}<br>{_decibel(crop.decibels[name])}</figcaption></figure>"
        for name, png in crop.pictures.items()
    )
    return f"<h2>{html.escape(crop.title)}: {crop.gain:+.2f} dB</h2><section>{shown}</section>"


def _busiest(blurred: Codes, truth: Codes) -> tuple[slice, slice]:
    """Where the two differ most over a crop's area."""
    height, width = blurred.shape[:2]
    tall, wide = min(SIDE, height), min(SIDE, width)
    miss = np.abs(blurred.astype(np.float32) - truth.astype(np.float32)).mean(2)
    mean = cv2.boxFilter(miss, -1, (wide, tall), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    within = mean[: height - tall + 1, : width - wide + 1]
    top, left = np.unravel_index(int(np.argmax(within)), within.shape)
    return slice(int(top), int(top) + tall), slice(int(left), int(left) + wide)


def _png(codes: Codes) -> bytes:
    _, packed = cv2.imencode(".png", np.ascontiguousarray(codes[..., ::-1]))
    return packed.tobytes()


def _text(png: bytes) -> str:
    return base64.b64encode(png).decode()


def _decibel(value: float) -> str:
    return "" if value >= PERFECT else f"{value:.2f} dB"
