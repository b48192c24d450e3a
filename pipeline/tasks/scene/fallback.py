"""What `freezeframe scene` delivers where no scene can be rebuilt: the frames, sharpened the usual way."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from freezeframe.data.media.files.directories import (
    create_parents,
    remove,
    remove_empty,
    remove_work_dir,
    work_dir,
)
from freezeframe.data.media.files.error_translation import translate_write_errors
from freezeframe.data.media.files.lock import Lock
from freezeframe.data.media.files.publish import Claim
from freezeframe.data.media.files.suffixes import CONTAINERS
from freezeframe.pipeline.config import Config
from freezeframe.pipeline.support.deadline import Deadline
from freezeframe.pipeline.support.progress import ProgressCallback
from freezeframe.pipeline.tasks.video import deblur_video


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackResult:
    """Why there is no scene, and what became of the frames."""

    reason: str
    deblurred: int  # frames
    frames: int
    checkpoint_kept: Path | None  # the checkpoint of a fit that was begun

    def text(self) -> str:
        """Why, and what became of the frames."""
        return f"No scene: {self.reason}. {self.outcome}"

    @property
    def outcome(self) -> str:
        """What became of the frames; a second line where a fit had begun."""
        summary = "The frames were copied."
        if self.deblurred:
            summary = f"{self.deblurred} of {self.frames} frames were sharpened one by one."
        return summary + (
            f"\nWhat the fit had reached is kept in {self.checkpoint_kept}." if self.checkpoint_kept else ""
        )


def write_fallback(  # noqa: PLR0913
    source: Path,
    target_claim: Claim,
    reason: str,
    *,
    config: Config,
    on_progress: ProgressCallback,
    deadline: Deadline,
) -> FallbackResult:
    """Write the folder `output` with sharpened frames and a report, but without a scene.

    Frames for which no time is left stay as they are. An interrupted run goes on where it stopped. The
    checkpoint of a fit that was begun is kept.
    """
    staging = work_dir(target_claim.path) / "instead"
    staging.mkdir(exist_ok=True)
    target = staging / sharp_name(source)
    # An earlier run may have been stopped after its last frame.
    for earlier in (target, staging / "report.json"):
        remove(earlier)
    report = deblur_video(
        source, target, config=_with_remaining_budget(config, deadline), progress=on_progress
    )
    annotated = replace(report, notes=(f"no scene was rebuilt: {reason}", *report.notes))
    annotated.save(staging / "report.json")
    target_claim.publish(staging)
    checkpoint = work_dir(target_claim.path) / "fit.pt"
    checkpoint_kept = checkpoint if checkpoint.exists() else None
    return FallbackResult(
        reason=reason,
        deblurred=report.counts["deblurred"],
        frames=sum(report.counts.values()),
        checkpoint_kept=checkpoint_kept,
    )


def _with_remaining_budget(config: Config, deadline: Deadline) -> Config:
    """The same with what is left of the budget; without a budget, the very same."""
    if deadline.end == math.inf:
        return config
    return replace(config, budget=max(deadline.remaining, 1e-3) / 60)


def sharp_name(source: Path) -> str:
    """The name of the sharp frames: a folder for photos, a film for a film."""
    if source.is_dir():
        return "sharp"
    return f"sharp{source.suffix if source.suffix.lower() in CONTAINERS else '.mkv'}"


@contextmanager
def locked_job_folder(target_claim: Claim) -> Iterator[None]:
    """The job folder of an output, locked; it goes again where nothing in it serves the next run."""
    job = work_dir(target_claim.path)
    with translate_write_errors(target_claim.path), create_parents(target_claim.path) as staging:
        lock = Lock(job, target_claim.path)
    try:
        yield
    finally:
        if not any(job.glob("fit.pt")) and not any(job.glob("instead/.*.freezeframe")):
            remove_work_dir(job)
        lock.release()
        remove_empty(staging)
