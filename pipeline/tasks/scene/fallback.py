"""What `freezeframe scene` delivers where no scene can be rebuilt: the frames, sharpened the usual way."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from freezeframe.data.media.files.lock import Lock
from freezeframe.data.media.files.publish import Claim, made_for, remove, remove_empty, remove_job, writing
from freezeframe.data.media.video_out.sink import CONTAINERS, job_folder
from freezeframe.pipeline.config import Config
from freezeframe.pipeline.support.deadline import Deadline
from freezeframe.pipeline.support.progress import Advance
from freezeframe.pipeline.tasks.video import deblur_video


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
    source: Path, place: Claim, reason: str, *, config: Config, advance: Advance, deadline: Deadline
) -> Instead:
    """Write the folder `output` with sharpened frames and a report, but without a scene.

    Frames for which no time is left stay as they are. An interrupted run goes on where it stopped. The
    checkpoint of a fit that was begun is kept.
    """
    made = job_folder(place.path) / "instead"
    made.mkdir(exist_ok=True)
    target = made / named_after(source)
    # An earlier run may have been stopped after its last frame.
    for earlier in (target, made / "report.json"):
        remove(earlier)
    report = deblur_video(source, target, config=_hurried(config, deadline), progress=advance)
    noted = replace(report, notes=(f"no scene was rebuilt: {reason}", *report.notes))
    noted.save(made / "report.json")
    place.publish(made)
    checkpoint = job_folder(place.path) / "fit.pt"
    kept = checkpoint if checkpoint.exists() else None
    return Instead(
        reason=reason, sharpened=report.counts["sharpened"], frames=sum(report.counts.values()), kept=kept
    )


def _hurried(config: Config, deadline: Deadline) -> Config:
    """The same with what is left of the budget; without a budget, the very same."""
    if deadline.end == math.inf:
        return config
    return replace(config, budget=max(deadline.left, 1e-3) / 60)


def named_after(source: Path) -> str:
    """The name of the sharp frames: a folder for photos, a film for a film."""
    if source.is_dir():
        return "sharp"
    return f"sharp{source.suffix if source.suffix.lower() in CONTAINERS else '.mkv'}"


@contextmanager
def working_on(place: Claim) -> Iterator[None]:
    """The job folder of an output, locked; it goes again where nothing in it serves the next run."""
    job = job_folder(place.path)
    with writing(place.path), made_for(place.path) as made:
        lock = Lock(job, place.path)
    try:
        yield
    finally:
        if not any(job.glob("fit.pt")) and not any(job.glob("instead/.*.freezeframe")):
            remove_job(job)
        lock.release()
        remove_empty(made)
