"""What `freezeframe scene` delivers where no scene can be rebuilt: the frames, sharpened the usual way."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from ..data.encode import job_folder
from ..data.errors import NoScene
from .api import deblur_video
from .config import Config
from .deadline import Deadline
from .progress import Advance
from .report import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Instead:
    """Why there is no scene, and what became of the frames."""

    reason: str
    sharpened: int  # frames
    frames: int
    kept: Path | None  # the checkpoint of a fit that was begun

    def text(self) -> str:
        """Why, and what became of the frames."""
        return f"No scene: {self.reason}. {self.outcome}"

    @property
    def outcome(self) -> str:
        """What became of the frames; a second line where a fit had begun."""
        done = "The frames were copied."
        if self.sharpened:
            done = f"{self.sharpened} of {self.frames} frames were sharpened one by one."
        return done + (f"\nWhat the fit had reached is kept in {self.kept}." if self.kept else "")


def sharpened_instead(  # noqa: PLR0913
    source: Path, output: Path, reason: str, *, config: Config, advance: Advance, deadline: Deadline
) -> Instead:
    """Write the folder `output` with sharpened frames and a report, but without a scene.

    When the time ends before all are done the frames are copied. An interrupted run goes on where it stopped.
    The checkpoint of a fit that was begun is kept.
    """
    made = job_folder(output) / "instead"
    made.mkdir(parents=True, exist_ok=True)
    target = made / named_after(source)
    _remove(target)  # an earlier run may have been stopped after its last frame

    def on(done: int, total: int | None) -> None:
        deadline.check("frames were sharpened")
        advance(done, total)

    try:
        deadline.check("frames were sharpened")
        report = deblur_video(source, target, config=_hurried(config, deadline), progress=on)
        done, count = _counted(report)
        noted = replace(report, notes=(f"no scene was rebuilt: {reason}", *report.notes))
        noted.save(made / "report.json")
    except NoScene:
        done, count = 0, 0
        _remove(job_folder(target))
        _copied(source, target)
        (made / "report.json").write_text(
            json.dumps({"source": str(source), "notes": [f"no scene was rebuilt: {reason}"]}, indent=2) + "\n"
        )
    replace_folder(made, output)
    checkpoint = job_folder(output) / "fit.pt"
    if not checkpoint.exists():
        shutil.rmtree(job_folder(output))
    kept = checkpoint if checkpoint.exists() else None
    return Instead(reason=reason, sharpened=done, frames=count, kept=kept)


def _hurried(config: Config, deadline: Deadline) -> Config:
    """The same with what is left of the budget; without a budget, the very same."""
    if deadline.end == math.inf:
        return config
    return replace(config, splat=replace(config.splat, budget=max(deadline.left, 1e-3) / 60))


def _counted(report: Report) -> tuple[int, int]:
    """Frames that were sharpened, and frames in all."""
    actions = [verdict.action for shot in report.shots for verdict in shot.verdicts]
    return actions.count("sharpened"), len(actions)


def _remove(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _copied(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)


def named_after(source: Path) -> str:
    """The name of the sharp frames: a folder for photos, a film for a film."""
    return "sharp" if source.is_dir() else f"sharp{source.suffix}"


def replace_folder(made: Path, output: Path) -> None:
    """Give a finished folder its name."""
    if output.exists():
        shutil.rmtree(output)
    made.rename(output)
