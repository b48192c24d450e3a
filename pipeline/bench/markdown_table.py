"""The table of a benchmark, in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from freezeframe.data.datasets.paired import Comparison

from .methods import INPUT
from .scoring import PSNR_CAP_DB, Metrics

CellFormat = Callable[[float], str]

COLUMNS: Mapping[str, tuple[str, CellFormat]] = {
    "psnr": ("PSNR dB", lambda value: f"{value:.2f}"),
    "gain": ("gain", lambda value: f"{value:+.2f}"),
    "worst": ("worst frame", lambda value: f"{value:+.2f}"),
    "ssim": ("SSIM", lambda value: f"{value:.4f}"),
    "tof": ("tOF px", lambda value: f"{value:.2f}"),
    "warping": ("warping", lambda value: f"{value:.2f}"),
    "flicker": ("flicker", lambda value: f"{value:.2f}"),
    "reblur": ("re-blur dB", lambda value: f"{value:.2f}"),
    "sharpness": ("sharpness", lambda value: f"{value:.2f}"),
    "seconds": ("s/frame", lambda value: f"{value:.2f}"),
    "megabytes": ("peak MB", lambda value: f"{value:.0f}"),
}

PROTOCOL_NOTES: Mapping[Comparison, str] = {
    "per_pixel": "Compared pixel by pixel, no alignment.",
    "aligned": "Aligned to the truth by brightness and homography (RealBlur), compared where both overlap.",
    "best_of_many": "Against the frame of the true trajectory to which it is closest (Köhler), no alignment.",
}

LEGEND = """8-bit sRGB read back from the files written, float64, every frame; mean per sequence, then
over sequences. SSIM: Wang et al. 2004, Gaussian window of sigma 1.5, mean over RGB, 5 border pixels left out.
tOF: L1 difference from the truth's flow. Warping: error against the next frame warped by the truth's flow,
over the input's. Flicker: second temporal differences of 16x16 blocks, 8-bit code values. Re-blur: the result
blurred again along the measured motion, against the input. Sharpness: RMS gradient over the truth's. Time
includes reading and writing; memory is that of the whole process."""


def render_table(rows: Mapping[str, Metrics], *, title: str, comparison: Comparison) -> str:
    """A Markdown table: one row per method, one column per metric; a dash for missing values."""
    lines = [
        f"### {title}",
        "",
        "| method | " + " | ".join(header for header, _ in COLUMNS.values()) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
        *(_line(name, _with_gain(metrics, rows[INPUT])) for name, metrics in rows.items()),
        "",
        f"{PROTOCOL_NOTES[comparison]} {LEGEND}",
    ]
    return "\n".join(lines)


def _with_gain(metrics: Metrics, baseline: Metrics) -> Metrics:
    return metrics | {"gain": metrics["psnr"] - baseline["psnr"]}


def _line(name: str, metrics: Metrics) -> str:
    perfect = {"psnr", "gain", "worst"} if metrics["psnr"] >= PSNR_CAP_DB else set()
    cells = [
        cell(metrics[key]) if key in metrics and key not in perfect else "-"
        for key, (_, cell) in COLUMNS.items()
    ]
    return f"| {name} | " + " | ".join(cells) + " |"
