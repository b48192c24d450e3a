"""Result of `freezeframe scene` if no scene can be rebuilt: the frames after the video pipeline."""

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
from freezeframe.pipeline.support.limits.deadline import Deadline
from freezeframe.pipeline.support.progress import ProgressCallback
from freezeframe.pipeline.tasks.video import deblur_video


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackResult:
    """Reason of the fallback, and counts of the frames."""

    reason: str
    deblurred: int  # frames
    frames: int
    checkpoint: Path | None  # of a fit that was started

    def format_text(self) -> str:
        """Reason and summary."""
        return f"No scene: {self.reason}. {self.summary}"

    @property
    def summary(self) -> str:
        """What happened to the frames; a second line names the checkpoint, if any."""
        summary = "The frames were copied unchanged."
        if self.deblurred:
            summary = f"{self.deblurred} of {self.frames} frames were deblurred by the video pipeline."
        return summary + (f"\nThe checkpoint of the fit is {self.checkpoint}." if self.checkpoint else "")


def write_fallback(  # noqa: PLR0913
    source: Path,
    target_claim: Claim,
    reason: str,
    *,
    config: Config,
    on_progress: ProgressCallback,
    deadline: Deadline,
) -> FallbackResult:
    """Write the output folder with deblurred frames and a report, but without a scene.

    Frames remain unchanged once the deadline is reached. An interrupted run is continued. The checkpoint of a
    started fit is kept.

    Args:
        source: Video or folder of photos.
        target_claim: The output folder.
        reason: Why no scene was rebuilt.
        config: Settings of the video pipeline.
        on_progress: Called for each frame.
        deadline: Of the whole command.
    """
    staging = work_dir(target_claim.path) / "fallback"
    staging.mkdir(exist_ok=True)
    target = staging / sharp_name(source)
    # Left by an earlier run that stopped after its last frame.
    for stale in (target, staging / "report.json"):
        remove(stale)
    report = deblur_video(
        source, target, config=_with_remaining_budget(config, deadline), progress=on_progress
    )
    annotated = replace(report, notes=(f"no scene was rebuilt: {reason}", *report.notes))
    annotated.save(staging / "report.json")
    target_claim.publish(staging)
    checkpoint = work_dir(target_claim.path) / "fit.pt"
    return FallbackResult(
        reason=reason,
        deblurred=report.counts["deblurred"],
        frames=sum(report.counts.values()),
        checkpoint=checkpoint if checkpoint.exists() else None,
    )


def _with_remaining_budget(config: Config, deadline: Deadline) -> Config:
    """The config with the remaining time as its budget; unchanged without a deadline."""
    if deadline.end == math.inf:
        return config
    return replace(config, budget=max(deadline.remaining, 1e-3) / 60)


def sharp_name(source: Path) -> str:
    """File or folder name of the deblurred frames: a folder for photos, a video for a video."""
    if source.is_dir():
        return "sharp"
    return f"sharp{source.suffix if source.suffix.lower() in CONTAINERS else '.mkv'}"


@contextmanager
def locked_job_folder(target_claim: Claim) -> Iterator[None]:
    """Lock the job folder of an output; remove it at the end unless a later run can continue from it."""
    job = work_dir(target_claim.path)
    with translate_write_errors(target_claim.path), create_parents(target_claim.path) as staging:
        lock = Lock(job, target_claim.path)
    try:
        yield
    finally:
        if not any(job.glob("fit.pt")) and not any(job.glob("fallback/.*.freezeframe")):
            remove_work_dir(job)
        lock.release()
        remove_empty(staging)
