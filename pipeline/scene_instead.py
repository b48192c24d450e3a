"""What `freezeframe scene` delivers where no scene can be rebuilt: the frames, sharpened the usual way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ..data.encode import job_folder
from ..data.lock import Lock
from ..data.publish import Claim, made_for, remove, remove_empty, remove_job, writing
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
    source: Path, place: Claim, reason: str, *, config: Config, advance: Advance
) -> Instead:
    """Write the folder `output` with sharpened frames and a report, but without a scene.

    An interrupted run goes on where it stopped. The checkpoint of a fit that was begun is kept.
    """
    made = job_folder(place.path) / "instead"
    made.mkdir(exist_ok=True)
    target = made / named_after(source)
    # An earlier run may have been stopped after its last frame.
    for earlier in (target, made / "report.json"):
        remove(earlier)
    report = deblur_video(source, target, config=config, progress=advance)
    noted = replace(report, notes=(f"no scene was rebuilt: {reason}", *report.notes))
    noted.save(made / "report.json")
    place.publish(made)
    checkpoint = job_folder(place.path) / "fit.pt"
    return Instead(reason=reason, frames=report, kept=checkpoint if checkpoint.exists() else None)


def named_after(source: Path) -> str:
    """The name of the sharp frames: a folder for photos, a film for a film."""
    return "sharp" if source.is_dir() else f"sharp{source.suffix}"


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
