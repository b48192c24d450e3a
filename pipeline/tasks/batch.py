"""A folder tree of clips: each file in a process of its own, so that one bad file harms no other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from freezeframe.data.errors import UnreadableMedia, UnwritableOutput
from freezeframe.data.media.files.preflight import check_writable
from freezeframe.data.media.files.suffixes import CONTAINERS, VIDEO_SUFFIXES
from freezeframe.pipeline.support.signals import PARENT_VARIABLE
from freezeframe.pipeline.support.units import format_clock, pluralize

COMMAND = Path(__file__).resolve().parents[2] / "cli.py"  # also runs where the package is not installed


ACTIONS = ("deblurred", "passthrough", "fallback")
COLUMNS = ("clip", "result", "deblurred", "left unchanged", "rejected", "time", "note")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One clip of the tree."""

    source: Path
    output: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEnvironment:
    """What is the same for every job."""

    force: bool
    variables: Mapping[str, str]  # of the environment


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """What became of one job."""

    job: Job
    status: Literal["done", "skipped", "failed"]
    message: str = ""
    seconds: float = 0.0
    frames: Mapping[str, int] = field(default_factory=dict)  # how many were sharpened, untouched, fell back

    @property
    def counts(self) -> tuple[str, ...]:
        """Frames sharpened, left unchanged and rejected, and the time; empty where nothing was done."""
        if self.status != "done":
            return ("",) * (len(ACTIONS) + 1)
        return (*(str(self.frames.get(action, 0)) for action in ACTIONS), format_clock(self.seconds))


def find_jobs(folder: Path, output: Path, *, recursive: bool) -> list[Job]:
    """All clips below `folder`, each with its place in the same tree below `output`.

    Hidden files and folders are left out, and so is `output` where it lies inside `folder`.
    """
    if not folder.is_dir():
        raise UnreadableMedia(f"{folder}: is not a folder; for a single clip use `freezeframe video`")
    if output.resolve() == folder.resolve():
        raise UnwritableOutput(f"{output}: is the input folder itself; name another one")
    if output.exists() and not output.is_dir():
        raise UnwritableOutput(f"{output}: is a file; name a folder")
    clips = _clips(folder, output, recursive=recursive)
    jobs = [Job(source=path, output=resolve_output(output / path.relative_to(folder))) for path in clips]
    if not jobs:
        deeper = "" if recursive else " (--recursive looks into its folders too)"
        raise UnreadableMedia(f"{folder}: holds no video files{deeper}")
    _refuse_collisions(jobs)
    return jobs


def collect_notes(jobs: Sequence[Job], folder: Path, output: Path) -> Iterator[str]:
    """What the user may not expect: other names, and clips in sub-folders that are left out."""
    for job in jobs:
        if job.output.name != job.source.name:
            yield f"{job.source}: becomes {job.output.name}, as {job.source.suffix} cannot keep every time"
    if deeper := len(_clips(folder, output, recursive=True)) - len(jobs):
        yield f"{pluralize(deeper, 'clip')} in sub-folders left out; add --recursive to include them"


def resolve_output(output: Path) -> Path:
    """Where the result really goes: containers that cannot keep every time (AVI, MPEG) become Matroska."""
    return output if output.suffix.lower() in CONTAINERS else output.with_name(output.name + ".mkv")


def run_batch(
    jobs: Sequence[Job],
    *,
    options: Sequence[str],
    workers: int,
    force: bool,
    on_result: Callable[[JobResult], None],
) -> list[JobResult]:
    """Run every job, `workers` at a time; finished outputs are skipped unless `force`.

    Args:
        jobs: What to do.
        options: Command-line options of `freezeframe video`, the same for every clip.
        workers: How many clips at once.
        force: Do finished clips again.
        on_result: Called with each outcome as it comes.
    """
    results: list[JobResult] = []
    with _ChildProcesses() as processes, ThreadPoolExecutor(max_workers=workers) as pool:
        futures = [
            pool.submit(_run, job, options, _batch_environment(workers, force), processes) for job in jobs
        ]
        try:
            for future in as_completed(futures):
                results.append(future.result())
                on_result(results[-1])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            processes.stop()
            raise
    order = {job.source: number for number, job in enumerate(jobs)}
    return sorted(results, key=lambda result: order[result.job.source])


def format_table(results: Sequence[JobResult]) -> str:
    """One line per clip and a sum."""
    rows = [COLUMNS, *((str(o.job.source), o.status, *o.counts, o.message) for o in results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_row(row, widths) for row in rows]
    sums = [
        f"{sum(o.status == status for o in results)} {status}" for status in ("done", "skipped", "failed")
    ]
    return "\n".join([*lines, ", ".join(sums)])


def to_dict(results: Sequence[JobResult]) -> dict[str, Any]:
    """Plain values, ready for JSON."""
    return {
        "clips": [
            {"source": str(o.job.source), "output": str(o.job.output), "status": o.status,
             "frames": dict(o.frames), "seconds": o.seconds, "note": o.message}
            for o in results
        ]
    }  # fmt: skip


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Words to the left, numbers to the right."""
    text_columns = {0, 1, len(COLUMNS) - 1}
    padded = [
        f"{cell:<{width}}" if column in text_columns else f"{cell:>{width}}"
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(padded).rstrip()


def _clips(folder: Path, output: Path, *, recursive: bool) -> list[Path]:
    output_root = output.resolve() if output.resolve().is_relative_to(folder.resolve()) else None
    clips = (path for path in _walk(folder, recursive) if path.suffix.lower() in VIDEO_SUFFIXES)
    return sorted(path for path in clips if output_root not in path.resolve().parents)


def _walk(folder: Path, recursive: bool) -> Iterator[Path]:
    for path in folder.rglob("*") if recursive else folder.iterdir():
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden:
            yield path


def _refuse_collisions(jobs: Sequence[Job]) -> None:
    """a.avi becomes a.avi.mkv, which another clip may be called already."""
    owners: dict[Path, Path] = {}
    for job in jobs:
        other = owners.setdefault(job.output, job.source)
        if other != job.source:
            raise UnwritableOutput(
                f"{job.output}: both {other} and {job.source} would become this file; rename one of them"
            )


class _ChildProcesses:
    """The processes at work. They stop when they are told to, and die with this one however it dies."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._stopped = False
        # Nothing is ever written into it: it ends when nobody holds the other end any more.
        self._read, self._write = os.pipe()

    def __enter__(self) -> _ChildProcesses:
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
                text=True, errors="replace", env={**os.environ, **variables, PARENT_VARIABLE: "1"},
                start_new_session=True,  # Ctrl-C in a terminal reaches them once, from here
            )  # fmt: skip
            self._running.add(child)
        try:
            _, stderr = child.communicate()
        finally:
            self._running.discard(child)
        return child.returncode, stderr

    def stop(self) -> None:
        """Stop those at work, and start no more."""
        with self._lock:
            self._stopped = True
            for child in tuple(self._running):
                child.send_signal(signal.SIGINT)


def _run(
    job: Job, options: Sequence[str], environment: BatchEnvironment, processes: _ChildProcesses
) -> JobResult:
    if job.output.exists() and not environment.force:
        return JobResult(job=job, status="skipped", message="is there already")
    try:
        check_writable(job.output)
    except UnwritableOutput as error:
        return JobResult(job=job, status="failed", message=str(error))
    with TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [sys.executable, str(COMMAND), "video", "--report", str(report), *options]
        command += ["--force"] * environment.force
        start_time = time.monotonic()
        code, stderr = processes.run(
            [*command, "--", str(job.source), str(job.output)], environment.variables
        )
        return _job_result(job, (code, stderr, time.monotonic() - start_time), report)


def _job_result(job: Job, process: tuple[int, str, float], report: Path) -> JobResult:
    code, stderr, seconds = process
    if code:
        message = _reason(stderr) or f"exit code {code}"
        return JobResult(job=job, status="failed", message=message, seconds=seconds)
    frames = json.loads(report.read_text(encoding="utf-8"))["action_counts"]
    return JobResult(job=job, status="done", message=_hint(stderr), seconds=seconds, frames=frames)


def _hint(stderr: str) -> str:
    lines = (line.strip() for line in stderr.splitlines())
    return "; ".join(line.removeprefix("hint: ") for line in lines if line.startswith("hint: "))


def _reason(stderr: str) -> str:
    """The last thing that a failed run said, which names its file."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    return lines[-1].removeprefix("freezeframe: ") if lines else ""


def _batch_environment(workers: int, force: bool) -> BatchEnvironment:
    # So many processes must not fight over the cores.
    threads_per_job = str(max(1, (os.cpu_count() or 1) // workers))
    return BatchEnvironment(
        force=force, variables={"OMP_NUM_THREADS": threads_per_job, "NUMBA_NUM_THREADS": threads_per_job}
    )
