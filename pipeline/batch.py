"""A folder tree of clips: each file in a process of its own, so that one bad file harms no other."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..data.encode import CONTAINERS
from ..data.errors import UnreadableMedia, UnwritableOutput

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mts", ".m2ts", ".ts", ".mpg", ".mpeg", ".3gp"}
    | {".wmv", ".flv", ".mxf", ".ogv"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One clip of the tree."""

    source: Path
    output: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one job."""

    job: Job
    status: Literal["done", "skipped", "failed"]
    message: str = ""


def jobs_in(folder: Path, output: Path, *, recursive: bool) -> list[Job]:
    """All clips below `folder`, each with its place in the same tree below `output`.

    Hidden files and folders are left out, and so is `output` where it lies inside `folder`.
    """
    if not folder.is_dir():
        raise UnreadableMedia(f"{folder}: is not a folder; for a single clip use `freezeframe video`")
    if output.resolve() == folder.resolve():
        raise UnwritableOutput(f"{output}: is the input folder itself; name another one")
    found = sorted(path for path in _walk(folder, recursive) if path.suffix.lower() in VIDEO_SUFFIXES)
    inside = [path for path in found if output.resolve() not in path.resolve().parents]
    if not inside:
        deeper = "" if recursive else " (--recursive looks into its folders too)"
        raise UnreadableMedia(f"{folder}: holds no video files{deeper}")
    return [Job(source=path, output=_place(output / path.relative_to(folder))) for path in inside]


def _place(output: Path) -> Path:
    """Containers that cannot keep every time (AVI, MPEG) become Matroska."""
    return output if output.suffix.lower() in CONTAINERS else output.with_name(output.name + ".mkv")


def run_batch(
    jobs: Sequence[Job],
    *,
    options: Sequence[str],
    workers: int,
    force: bool,
    tell: Callable[[Outcome], None],
) -> list[Outcome]:
    """Run every job, `workers` at a time; finished outputs are skipped unless `force`.

    Args:
        jobs: What to do.
        options: Command-line options of `freezeframe video`, the same for every clip.
        workers: How many clips at once.
        force: Do finished clips again.
        tell: Called with each outcome as it comes.
    """
    outcomes = []
    with ThreadPoolExecutor(max_workers=workers) as pool:
        running = [pool.submit(_run, job, options, workers, force) for job in jobs]
        try:
            for future in as_completed(running):
                outcome = future.result()
                tell(outcome)
                outcomes.append(outcome)
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
    order = {job.source: number for number, job in enumerate(jobs)}
    return sorted(outcomes, key=lambda outcome: order[outcome.job.source])


def table(outcomes: Sequence[Outcome]) -> str:
    """One line per clip and a sum."""
    width = max((len(str(outcome.job.source)) for outcome in outcomes), default=0)
    lines = [f"{o.job.source!s:<{width}}  {o.status:<7}  {o.message}".rstrip() for o in outcomes]
    sums = [
        f"{sum(o.status == status for o in outcomes)} {status}" for status in ("done", "skipped", "failed")
    ]
    return "\n".join([*lines, ", ".join(sums)])


def _walk(folder: Path, recursive: bool) -> Iterator[Path]:
    for path in folder.rglob("*") if recursive else folder.iterdir():
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden:
            yield path


def _run(job: Job, options: Sequence[str], workers: int, force: bool) -> Outcome:
    if job.output.exists() and not force:
        return Outcome(job=job, status="skipped", message="finished before")
    job.output.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "freezeframe.cli", "video", str(job.source), str(job.output), *options]
    if force:
        command.append("--force")
    done = subprocess.run(command, capture_output=True, text=True, env=_share_of_cores(workers), check=False)
    if done.returncode == 0:
        return Outcome(job=job, status="done")
    said = [line for line in done.stderr.splitlines() if line.strip()]
    return Outcome(job=job, status="failed", message=said[-1] if said else f"exit code {done.returncode}")


def _share_of_cores(workers: int) -> dict[str, str]:
    """An environment in which `workers` processes do not fight over the cores."""
    share = str(max(1, (os.cpu_count() or 1) // workers))
    return {**os.environ, "OMP_NUM_THREADS": share, "NUMBA_NUM_THREADS": share}
