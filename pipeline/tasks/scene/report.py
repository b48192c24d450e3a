"""What `freezeframe scene` found and made."""

from __future__ import annotations

from dataclasses import dataclass

from .evaluate import EvalMetrics

_KINDS = {"still": "no motion", "rotation": "rotation only", "parallax": "scene with depth"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneReport:
    """What was found and made."""

    source: str
    output: str
    kind: str  # rotation or parallax
    mode: str  # free or tied
    reason: str
    shutter: float
    frames: int
    registered: int  # frames whose cameras were found
    static: float  # mean share of the pictures that belongs to the scene
    psnr: float  # of the re-blurred frames, dB
    area_fraction: float  # mean share of the pictures that show the scene
    seconds: float
    evaluation: EvalMetrics | None
    files: tuple[str, ...]

    def text(self) -> str:
        """A few lines for a person."""
        return (
            f"{self.source}: {self.registered} of {self.frames} frames registered ({_KINDS[self.kind]})\n"
            f"  {self.reason}\n"
            f"  shutter {self.shutter:.2f}, blurred again {self.psnr:.1f} dB, {self.seconds:.0f} s\n"
            f"  the static scene covers {self.static:.0%} of the frames; {self.area_fraction:.0%} were rebuilt\n"
            + self._evaluation_text()
            + "\n".join(f"  {name}" for name in self.files)
        )

    def _evaluation_text(self) -> str:
        if self.evaluation is None:
            return ""
        j = self.evaluation
        return (
            f"  {j.views} held-out views: {j.psnr:.2f} dB, SSIM {j.ssim:.4f}; cameras aligned"
            f" {j.psnr_aligned:.2f} dB, {j.ssim_aligned:.4f}\n  ({j.protocol})\n"
        )
