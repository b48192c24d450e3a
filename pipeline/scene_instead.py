"""What `freezeframe scene` delivers where no scene can be rebuilt: the frames, sharpened the usual way."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from ..data.encode import CONTAINERS, job_folder
from .api import deblur_video
from .config import Config
from .progress import Advance
from .report import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Instead:
    """Why there is no scene, and what became of the frames."""

    reason: str
    frames: Report
    kept: Path | None  # the checkpoint of a fit that was begun

    def text(self) -> str:
        """A few lines for a person."""
        kept = f"\n  what the fit had reached is kept in {self.kept}" if self.kept else ""
        return (
            f"no scene was rebuilt: {self.reason}\n  the frames were sharpened the usual way instead{kept}\n"
            + self.frames.text()
        )


def sharpened_instead(
    source: Path, output: Path, reason: str, *, config: Config, advance: Advance
) -> Instead:
    """Write the folder `output` with sharpened frames and a report, but without a scene.

    An interrupted run goes on where it stopped. The checkpoint of a fit that was begun is kept.
    """
    made = job_folder(output) / "instead"
    made.mkdir(parents=True, exist_ok=True)
    target = made / named_after(source)
    # An earlier run may have been stopped after its last frame.
    if target.exists():
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    report = deblur_video(source, target, config=config, progress=advance)
    noted = replace(report, notes=(f"no scene was rebuilt: {reason}", *report.notes))
    noted.save(made / "report.json")
    replace_folder(made, output)
    checkpoint = job_folder(output) / "fit.pt"
    if not checkpoint.exists():
        shutil.rmtree(job_folder(output))
    return Instead(reason=reason, frames=report, kept=checkpoint if checkpoint.exists() else None)


def named_after(source: Path) -> str:
    """The name of the sharp frames: a folder for photos, a film for a film."""
    if source.is_dir():
        return "sharp"
    return f"sharp{source.suffix if source.suffix.lower() in CONTAINERS else '.mkv'}"


def replace_folder(made: Path, output: Path) -> None:
    """Give a finished folder its name."""
    if output.exists():
        shutil.rmtree(output)
    made.rename(output)
