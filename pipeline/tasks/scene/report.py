"""Report of `freezeframe scene`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from .evaluate import EvalMetrics

SCHEMA = 1  # version of the JSON file
_KINDS = {"still": "no motion", "rotation": "rotating camera", "parallax": "scene with depth"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneReport:
    """Decisions, measurements and files of a rebuilt scene."""

    source: str
    output: str
    kind: str  # rotation or parallax
    mode: str  # per_frame or shared
    reason: str  # of the mode
    shutter: float  # exposure time over frame interval, after the fit
    frames: int
    registered: int  # frames with known cameras
    static: float  # mean area fraction of the static scene
    psnr: float  # of the re-blurred frames, dB
    area_fraction: float  # mean area fraction into which the rendering was blended
    seconds: float
    evaluation: EvalMetrics | None
    files: tuple[str, ...]

    def format_text(self) -> str:
        """A few lines for the terminal."""
        return (
            f"{self.source}: {self.registered} of {self.frames} frames registered ({_KINDS[self.kind]})\n"
            f"  {self.reason}\n"
            f"  shutter fraction {self.shutter:.2f}, PSNR of the re-blurred frames {self.psnr:.1f} dB,"
            f" {self.seconds:.0f} s\n"
            f"  {self.static:.0%} of the frame area is static; the scene was blended into"
            f" {self.area_fraction:.0%}\n"
            + self._format_evaluation()
            + "\n".join(f"  {name}" for name in self.files)
        )

    def save(self, path: Path) -> None:
        """Write the report as JSON."""
        path.write_text(json.dumps({"schema": SCHEMA, **asdict(self)}, indent=2) + "\n")

    def _format_evaluation(self) -> str:
        if self.evaluation is None:
            return ""
        metrics = self.evaluation
        return (
            f"  {metrics.views} held-out views: {metrics.psnr:.2f} dB, SSIM {metrics.ssim:.4f}; with aligned"
            f" cameras {metrics.psnr_aligned:.2f} dB, {metrics.ssim_aligned:.4f}\n  ({metrics.protocol})\n"
        )
