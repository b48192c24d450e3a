"""`batch` is stopped at a random time: its child processes end with it, and the same command resumes."""

from __future__ import annotations

import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path
from random import Random

from freezeframe.tests.campaigns.invariants import Contents, Outcome, message_fault
from freezeframe.tests.campaigns.kills import FAST, REACTION_S, SIGNALS, stop_fault
from freezeframe.tests.campaigns.process import ProcessResult, alive_in, fork, run, start
from freezeframe.tests.campaigns.results import difference, probe_output
from freezeframe.tests.campaigns.seeds import write_clip

CASES = 30
CLIPS = ("a.mp4", "b.mkv", "c.mp4")
JOBS = (
    1,
    2,
    3,
)  # clips in parallel, which share the cores: sums over other threads differ in their last bits
GRACE_S = 5.0  # seconds after its parent's end in which a child must end
TIMEOUT_S = 600.0


def prepare(folder: Path) -> None:
    """Three clips, and the results of an undisturbed batch."""
    clips = folder / "clips"

    def write() -> None:
        clips.mkdir()
        for number, name in enumerate(CLIPS):
            kind = "ffv1.mkv" if name.endswith(".mkv") else "h264.mp4"
            write_clip(clips / name, frames=8, seed=number, kind=kind)

    assert not fork(write, folder=folder).wait().code
    for jobs in JOBS:
        ended = run(_command(jobs), folder=folder)
        assert ended.code == 0, ended.log
        (folder / "out").rename(folder / f"out{jobs}")
        (folder / f"work{jobs}").write_text(str(ended.work))


def case(random: Random, baseline: Path, folder: Path) -> Outcome:
    number, jobs, at_once = random.choice(SIGNALS), random.choice(JOBS), random.random() < 0.5
    signal_delay = random.uniform(0.02, 1.05) * float((baseline / f"work{jobs}").read_text())
    shutil.copytree(baseline / "clips", folder / "clips")
    before = Contents.of(folder)
    description = (
        f"{' '.join(_command(jobs))}, {number.name} after {signal_delay:.1f} s of CPU time,"
        f" rerun {'at once' * at_once}"
    )

    running = start(_command(jobs), folder=folder)
    late = running.ended_before(signal_delay)
    running.send(number)
    ended = running.wait_for(REACTION_S)
    fault = stop_fault(ended, number, late=late)
    if not at_once:
        fault = fault or _orphans(folder, number)
    ended = start(_command(jobs), folder=folder).wait(TIMEOUT_S)
    fault = fault or _rerun_fault(ended, before, folder) or _mismatch(baseline / f"out{jobs}", folder)
    _end_all(folder)
    kind = f"{number.name}, {jobs} in parallel" + (", had finished" if late else "")
    return Outcome(
        kind=kind, fault=fault, description=description, seconds=ended.seconds, peak_mb=ended.peak_mb
    )


def _command(jobs: int) -> tuple[str, ...]:
    return ("batch", "clips", "out", "--jobs", str(jobs), *FAST)


def _orphans(folder: Path, number: signal.Signals) -> str:
    until = time.monotonic() + GRACE_S
    while (alive := alive_in(folder)) and time.monotonic() < until:
        time.sleep(0.1)
    _end_all(folder)
    return (
        f"{number.name}: {len(alive)} clips still run {GRACE_S:.0f} s after their batch ended"
        if alive
        else ""
    )


def _rerun_fault(ended: ProcessResult, before: Contents, folder: Path) -> str:
    after = Contents.of(folder)
    if fault := message_fault(ended, names=("clips", "out"), allowed=(0,)):
        return f"rerun: {fault} {_failures(ended.log)}".strip()
    if modified := before.modified_in(after):
        return f"changed: {', '.join(modified)}"
    extra_files = set(before.new_in(after)) - {f"out/{name}" for name in CLIPS}
    return f"left behind: {', '.join(sorted(extra_files))}" if extra_files else ""


def _failures(log: str) -> str:
    return " / ".join(line.strip() for line in log.splitlines() if "  failed  " in line)


def _mismatch(baseline: Path, folder: Path) -> str:
    for name in CLIPS:
        mismatch = difference(probe_output(baseline / name), probe_output(folder / "out" / name))
        if mismatch:
            return f"{name}: {mismatch}"
    return ""


def _end_all(folder: Path) -> None:
    """End the processes of this case that still run."""
    for number in alive_in(folder):
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
