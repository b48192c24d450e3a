"""A folder tree of clips: one process per clip, so that the failure of one affects no other."""

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
from typing import Any

from freezeframe.data.errors import UnreadableMedia, UnwritableOutput
from freezeframe.data.media.files.preflight import check_writable
from freezeframe.data.media.files.suffixes import CONTAINERS, VIDEO_SUFFIXES
from freezeframe.pipeline.support.output_paths import check_unique_outputs
from freezeframe.pipeline.support.signals import PARENT_VARIABLE
from freezeframe.pipeline.support.text.table import Status, align_columns, count_statuses
from freezeframe.pipeline.support.text.units import format_clock, pluralize

COMMAND = Path(__file__).resolve().parents[2] / "cli.py"  # runs without an installed package, too
SCHEMA = 1  # version of the JSON file
ACTIONS = ("deblurred", "passthrough", "fallback")
COLUMNS = ("clip", "status", "deblurred", "left unchanged", "rejected", "time", "note")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One clip of the tree and the path of its result."""

    source: Path
    output: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEnvironment:
    """Settings common to all jobs."""

    force: bool
    variables: Mapping[str, str]  # environment variables


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """Result of one job."""

    job: Job
    status: Status
    message: str = ""
    seconds: float = 0.0
    frames: Mapping[str, int] = field(default_factory=dict)  # number of frames by action

    @property
    def counts(self) -> tuple[str, ...]:
        """Frames deblurred, left unchanged and rejected, and the time; empty unless the job is done."""
        if self.status != "done":
            return ("",) * (len(ACTIONS) + 1)
        return (*(str(self.frames.get(action, 0)) for action in ACTIONS), format_clock(self.seconds))


def find_jobs(folder: Path, output: Path, *, recursive: bool) -> list[Job]:
    """All clips below `folder`, each with its path in the same tree below `output`.

    Hidden files and folders are left out, and so is `output` if it lies inside `folder`.

    Raises:
        UnreadableMedia: `folder` is no folder or holds no video files.
        UnwritableOutput: `output` is a file or the input folder, or two clips have one output.
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
        hint = "" if recursive else " (--recursive includes its sub-folders)"
        raise UnreadableMedia(f"{folder}: holds no video files{hint}")
    check_unique_outputs({job.source: job.output for job in jobs})
    return jobs


def collect_notes(jobs: Sequence[Job], folder: Path, output: Path) -> Iterator[str]:
    """Notes for the user: outputs with another name, and clips in sub-folders that are left out."""
    for job in jobs:
        if job.output.name != job.source.name:
            suffix = job.source.suffix
            yield f"{job.source}: becomes {job.output.name}, as {suffix} cannot hold all timestamps"
    if num_omitted := len(_clips(folder, output, recursive=True)) - len(jobs):
        yield f"{pluralize(num_omitted, 'clip')} in sub-folders left out; add --recursive to include them"


def resolve_output(output: Path) -> Path:
    """The path of the result: Matroska replaces containers that cannot hold all timestamps (AVI, MPEG)."""
    return output if output.suffix.lower() in CONTAINERS else output.with_name(output.name + ".mkv")


def run_batch(
    jobs: Sequence[Job],
    *,
    options: Sequence[str],
    workers: int,
    force: bool,
    on_result: Callable[[JobResult], None],
) -> list[JobResult]:
    """Run every job, `workers` at a time; existing outputs are skipped unless `force`.

    Args:
        jobs: The clips and their outputs.
        options: Command-line options of `freezeframe video`, the same for every clip.
        workers: Number of clips processed in parallel.
        force: Process clips with an existing output again.
        on_result: Called with each result as it arrives.

    Returns:
        The results in the order of `jobs`.
    """
    results: list[JobResult] = []
    environment = _batch_environment(workers, force)
    with _ChildProcesses() as processes, ThreadPoolExecutor(max_workers=workers) as pool:
        futures = [pool.submit(_run, job, options, environment, processes) for job in jobs]
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


def format_results(results: Sequence[JobResult]) -> str:
    """One line per clip, and the totals."""
    rows = [(str(each.job.source), each.status, *each.counts, each.message) for each in results]
    lines = align_columns([COLUMNS, *rows], "<<>>>><")
    return "\n".join([*lines, count_statuses([each.status for each in results])])


def to_dict(results: Sequence[JobResult]) -> dict[str, Any]:
    """Plain values, ready for JSON."""
    return {
        "schema": SCHEMA,
        "clips": [
            {"source": str(each.job.source), "output": str(each.job.output), "status": each.status,
             "frames": dict(each.frames), "seconds": each.seconds, "note": each.message}
            for each in results
        ],
    }  # fmt: skip


def _clips(folder: Path, output: Path, *, recursive: bool) -> list[Path]:
    output_root = output.resolve() if output.resolve().is_relative_to(folder.resolve()) else None
    clips = (path for path in _walk(folder, recursive) if path.suffix.lower() in VIDEO_SUFFIXES)
    return sorted(path for path in clips if output_root not in path.resolve().parents)


def _walk(folder: Path, recursive: bool) -> Iterator[Path]:
    for path in folder.rglob("*") if recursive else folder.iterdir():
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden:
            yield path


class _ChildProcesses:
    """The running child processes. They end by `stop`, or with this process however it ends."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._stopped = False
        # Nothing is written into this pipe: it reaches its end when this process ends.
        self._read, self._write = os.pipe()

    def __enter__(self) -> _ChildProcesses:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._read)
        os.close(self._write)

    def run(self, command: Sequence[str], variables: Mapping[str, str]) -> tuple[int, str]:
        """Run a command to its end; its exit code and its stderr."""
        with self._lock:
            if self._stopped:
                return 128 + signal.SIGINT, ""
            child = subprocess.Popen(
                command, stdin=self._read, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                text=True, errors="replace", env={**os.environ, **variables, PARENT_VARIABLE: "1"},
                start_new_session=True,  # Ctrl-C in a terminal reaches a child once, through `stop`
            )  # fmt: skip
            self._running.add(child)
        try:
            _, stderr = child.communicate()
        finally:
            self._running.discard(child)
        return child.returncode, stderr

    def stop(self) -> None:
        """Interrupt the running processes, and start no more."""
        with self._lock:
            self._stopped = True
            for child in tuple(self._running):
                child.send_signal(signal.SIGINT)


def _run(
    job: Job, options: Sequence[str], environment: BatchEnvironment, processes: _ChildProcesses
) -> JobResult:
    if job.output.exists() and not environment.force:
        return JobResult(job=job, status="skipped", message="output exists")
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
        seconds = time.monotonic() - start_time
        if code:
            message = _reason(stderr) or f"exit code {code}"
            return JobResult(job=job, status="failed", message=message, seconds=seconds)
        frames = json.loads(report.read_text(encoding="utf-8"))["action_counts"]
    return JobResult(job=job, status="done", message=_hint(stderr), seconds=seconds, frames=frames)


def _hint(stderr: str) -> str:
    lines = (line.strip() for line in stderr.splitlines())
    return "; ".join(line.removeprefix("hint: ") for line in lines if line.startswith("hint: "))


def _reason(stderr: str) -> str:
    """The last line of a failed run, which names its file."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    return lines[-1].removeprefix("freezeframe: ") if lines else ""


def _batch_environment(workers: int, force: bool) -> BatchEnvironment:
    # The processes share the cores.
    threads_per_job = str(max(1, (os.cpu_count() or 1) // workers))
    return BatchEnvironment(
        force=force, variables={"OMP_NUM_THREADS": threads_per_job, "NUMBA_NUM_THREADS": threads_per_job}
    )
