"""A folder tree of clips: each file in a process of its own, so that one bad file harms no other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..data.encode import CONTAINERS
from ..data.errors import UnreadableMedia, UnwritableOutput
from ..data.publish import refuse_place
from .signals import PARENT

COMMAND = Path(__file__).resolve().parents[1] / "cli.py"  # also runs where the package is not installed
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
class Surroundings:
    """What is the same for every job."""

    force: bool
    variables: Mapping[str, str]  # of the environment


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
    if output.exists() and not output.is_dir():
        raise UnwritableOutput(f"{output}: is a file; name a folder")
    results = output.resolve() if output.resolve().is_relative_to(folder.resolve()) else None
    clips = sorted(path for path in _walk(folder, recursive) if path.suffix.lower() in VIDEO_SUFFIXES)
    jobs = [
        Job(source=path, output=place(output / path.relative_to(folder)))
        for path in clips
        if results not in path.resolve().parents
    ]
    if not jobs:
        deeper = "" if recursive else " (--recursive looks into its folders too)"
        raise UnreadableMedia(f"{folder}: holds no video files{deeper}")
    _refuse_collisions(jobs)
    return jobs


def place(output: Path) -> Path:
    """Where the result really goes: containers that cannot keep every time (AVI, MPEG) become Matroska."""
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
    outcomes: list[Outcome] = []
    with _Children() as children, ThreadPoolExecutor(max_workers=workers) as pool:
        waiting = [pool.submit(_run, job, options, _surroundings(workers, force), children) for job in jobs]
        try:
            for future in as_completed(waiting):
                outcomes.append(future.result())
                tell(outcomes[-1])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            children.stop()
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


def _refuse_collisions(jobs: Sequence[Job]) -> None:
    """a.avi becomes a.avi.mkv, which another clip may be called already."""
    taken: dict[Path, Path] = {}
    for job in jobs:
        other = taken.setdefault(job.output, job.source)
        if other != job.source:
            raise UnwritableOutput(
                f"{job.output}: both {other} and {job.source} would become this file; rename one of them"
            )


class _Children:
    """The processes at work. They stop when they are told to, and die with this one however it dies."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._stopped = False
        # Nothing is ever written into it: it ends when nobody holds the other end any more.
        self._read, self._write = os.pipe()

    def __enter__(self) -> _Children:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._read)
        os.close(self._write)

    def run(self, command: Sequence[str], variables: Mapping[str, str]) -> tuple[int, str]:
        """Run a command to its end; its exit code, and what it said."""
        with self._lock:
            if self._stopped:
                return 128 + signal.SIGINT, ""
            child = subprocess.Popen(
                command, stdin=self._read, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                text=True, errors="replace", env={**os.environ, **variables, PARENT: "1"},
                start_new_session=True,  # Ctrl-C in a terminal reaches them once, from here
            )  # fmt: skip
            self._running.add(child)
        try:
            _, said = child.communicate()
        finally:
            self._running.discard(child)
        return child.returncode, said

    def stop(self) -> None:
        """Stop those at work, and start no more."""
        with self._lock:
            self._stopped = True
            for child in tuple(self._running):
                child.send_signal(signal.SIGINT)


def _run(job: Job, options: Sequence[str], surroundings: Surroundings, children: _Children) -> Outcome:
    if job.output.exists() and not surroundings.force:
        return Outcome(job=job, status="skipped", message="is there already")
    try:
        refuse_place(job.output)
    except UnwritableOutput as error:
        return Outcome(job=job, status="failed", message=str(error))
    command = [sys.executable, str(COMMAND), "video", str(job.source), str(job.output), *options]
    code, said = children.run(command + ["--force"] * surroundings.force, surroundings.variables)
    if code == 0:
        return Outcome(job=job, status="done")
    return Outcome(job=job, status="failed", message=_reason(said) or f"exit code {code}")


def _reason(said: str) -> str:
    """The last thing that a failed run said, which names its file."""
    lines = [line for line in said.splitlines() if line.strip()]
    return lines[-1].removeprefix("freezeframe: ") if lines else ""


def _surroundings(workers: int, force: bool) -> Surroundings:
    # So many processes must not fight over the cores.
    share = str(max(1, (os.cpu_count() or 1) // workers))
    return Surroundings(force=force, variables={"OMP_NUM_THREADS": share, "NUMBA_NUM_THREADS": share})
