"""Plot of a diagnosis. Needs the extra `plot`.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from freezeframe.data.errors import MissingExtra
from freezeframe.data.types import Box, Mover

from .diagnose import Diagnosis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {"none": "#8a8f98", "camera": "#2a78d6", "object": "#e2572b", "defocus": "#8c5bd0"}
_WIDTH, _DPI = 10.0, 110  # inches, dots per inch
_MAX_STROKE = 0.45  # fraction of the region's width that a stroke may extend to either side
_MIN_BLUR = 0.5  # pixels; shorter blur is drawn as a point
SCALES = (1, 2, 5, 10, 20, 50)  # exaggeration of the strokes


def plot_diagnosis(  # noqa: PLR0913
    path: Path,
    diagnoses: Sequence[Diagnosis],
    *,
    times: Sequence[float],
    frame: Tensor,
    index: int,
    blur_threshold_px: float | None = None,
    boxes: Sequence[tuple[Box, float, Mover]] = (),
) -> None:
    """Plot blur and sharpness over time, and the blur vectors of one frame.

    Args:
        path: Image file to write.
        diagnoses: One per frame.
        times: Seconds, one per frame.
        frame: [3, H, W] linear RGB, drawn below the vectors.
        index: Of the frame in `diagnoses`.
        blur_threshold_px: Blur length in pixels above which frames are processed; None draws no line.
        boxes: Blurred regions of the frame, their blur lengths in pixels, and what moves.
    """
    figure = _make_figure(frame.shape[1] / frame.shape[2])
    blur, sharpness, picture = figure.axes
    _draw_blur(blur, diagnoses, times, index)
    if blur_threshold_px is not None:
        _draw_threshold(blur, blur_threshold_px)
    _draw_sharpness(sharpness, diagnoses, times, index)
    scale = stroke_scale(diagnoses[index], frame.shape[1:])
    _draw_vectors(picture, diagnoses[index], frame, scale)
    for box, length, mover in boxes:
        _draw_box(picture, box, length, _COLOURS[mover])
    title = f"Blur vectors at {times[index]:.2f} s ({diagnoses[index].blur:.1f} px), scaled by {scale}"
    picture.set_title(title, loc="left", fontsize=10)
    figure.savefig(path, dpi=_DPI)


def _make_figure(aspect: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as missing:
        raise MissingExtra("matplotlib", "plot", "Drawing a diagnosis") from missing
    chart, picture = 1.3, 0.93 * _WIDTH * aspect  # heights in inches
    figure = Figure(figsize=(_WIDTH, 2 * chart + picture + 1.2), layout="constrained")
    figure.subplots(3, 1, height_ratios=[chart, chart, picture])
    return figure


def _draw_threshold(axes: Axes, threshold: float) -> None:
    axes.axhline(threshold, color="#20242b", linewidth=0.8, linestyle="--")
    axes.annotate(
        f"processed from {threshold:.1f} px",
        (1, threshold),
        xycoords=("axes fraction", "data"),
        ha="right",
        va="bottom",
        fontsize=8,
    )


def _draw_blur(axes: Axes, diagnoses: Sequence[Diagnosis], times: Sequence[float], index: int) -> None:
    axes.plot(times, [d.blur for d in diagnoses], color="#c3c6cc", linewidth=1, zorder=1)
    for cause, colour in _COLOURS.items():
        indices = [k for k, diagnosis in enumerate(diagnoses) if diagnosis.cause == cause]
        if indices:
            cause_times, lengths = [times[k] for k in indices], [diagnoses[k].blur for k in indices]
            axes.scatter(cause_times, lengths, color=colour, s=14, label=cause, zorder=2)
    axes.legend(ncols=4, fontsize=8, frameon=False, loc="lower right", bbox_to_anchor=(1, 1))
    axes.set_title("98 % quantile of the blur length, pixels, by cause", loc="left", fontsize=10)
    axes.set_ylim(bottom=0)
    _style(axes, times[index])


def _draw_sharpness(axes: Axes, diagnoses: Sequence[Diagnosis], times: Sequence[float], index: int) -> None:
    axes.plot(times, [d.sharpness for d in diagnoses], color="#1f9d63", linewidth=1.6)
    axes.set_title("Sharpness (MTF50), cycles per pixel", loc="left", fontsize=10)
    axes.set_ylim(0, 0.5)
    axes.set_xlabel("seconds", fontsize=9)
    _style(axes, times[index])


def _style(axes: Axes, time: float) -> None:
    axes.axvline(time, color="#20242b", linewidth=0.8, linestyle=":")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def stroke_scale(diagnosis: Diagnosis, size: Sequence[int]) -> int:
    """Largest of `SCALES` at which the strokes of a frame of `size` (h, w) stay within their regions."""
    longest = max(region.blur for row in diagnosis.regions for region in row)
    available = 2 * _MAX_STROKE * min(size[0] / len(diagnosis.regions), size[1] / len(diagnosis.regions[0]))
    return max((scale for scale in SCALES if scale * longest <= available), default=1)


def _draw_vectors(axes: Axes, diagnosis: Diagnosis, frame: Tensor, scale: int) -> None:
    encoded = frame.clamp(0, 1).pow(1 / 2.2).permute(1, 2, 0).cpu().numpy()
    axes.imshow(encoded, interpolation="nearest")
    axes.set_axis_off()
    height, width = encoded.shape[:2]
    rows, columns = len(diagnosis.regions), len(diagnosis.regions[0])
    for i, row in enumerate(diagnosis.regions):
        for j, region in enumerate(row):
            x, y = (j + 0.5) * width / columns, (i + 0.5) * height / rows
            if region.blur < _MIN_BLUR:
                axes.plot(x, y, color=_COLOURS["none"], marker=".", markersize=3)
                continue
            half = min(scale * region.blur / 2, _MAX_STROKE * min(width / columns, height / rows))
            dx, dy = half * np.cos(region.direction), half * np.sin(region.direction)
            _stroke(axes, (x - dx, x + dx), (y - dy, y + dy), _COLOURS[region.cause])


def _draw_box(axes: Axes, box: Box, length: float, colour: str) -> None:
    # Through the middles of the outer pixels, so that the outline of a whole frame is inside the picture.
    right, bottom = box.right - 1, box.bottom - 1
    _outline(
        axes,
        (box.left, right, right, box.left, box.left),
        (box.top, box.top, bottom, bottom, box.top),
        colour,
    )
    axes.annotate(
        f"{length:.0f} px",
        (right, box.top),
        color=colour,
        fontsize=9,
        ha="right" if box.right > axes.get_xlim()[1] - 40 else "left",
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 1},
    )


def _outline(axes: Axes, x: Sequence[float], y: Sequence[float], colour: str) -> None:
    axes.plot(x, y, color="white", linewidth=3)
    axes.plot(x, y, color=colour, linewidth=1.4)


def _stroke(axes: Axes, x: tuple[Any, Any], y: tuple[Any, Any], colour: str) -> None:
    """A line with an outline, visible on any background. Without arrowhead, as blur has no sign."""
    axes.plot(x, y, color="white", linewidth=5, solid_capstyle="round")
    axes.plot(x, y, color=colour, linewidth=3, solid_capstyle="round")
