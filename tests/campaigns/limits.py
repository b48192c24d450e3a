"""Limits of disk space, memory, open files and permissions: one sentence, no partial output, rerun works."""

from __future__ import annotations

import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random

from freezeframe.tests.campaigns.invariants import STATE, Outcome, message_fault, verification_fault
from freezeframe.tests.campaigns.process import ProcessResult, fork, run, start
from freezeframe.tests.campaigns.results import difference, probe_output
from freezeframe.tests.campaigns.seeds import write_clip, write_folder

CASES = 100
FAST = ("--network", "none", "--iterations", "2", "--min-blur", "0.5")
COMMANDS: Mapping[str, tuple[str, ...]] = {  # output: the command that writes it
    "out.mp4": ("video", "in.mp4", "{}", *FAST),
    "out.mkv": ("video", "in.mp4", "{}", *FAST, "--codec", "ffv1"),
    "out": ("video", "in.mp4", "{}", *FAST),
    "again": ("video", "frames", "{}", *FAST),
    "out.png": ("restore", "frames/000000.png", "{}"),
    "out.tif": ("burst", "frames/000000.png", "frames/000001.png", "--out", "{}"),
}
NAMES = ("in.mp4", "frames", "disk")


def prepare(folder: Path) -> None:
    """A clip, a folder of images, and the results of each command without limits."""

    def write() -> None:
        write_clip(folder / "in.mp4", frames=12)
        write_folder(folder / "frames", frames=8)

    assert not fork(write, folder=folder).wait().code
    (folder / "disk").mkdir()
    for output in COMMANDS:
        ended = run(_command(output), folder=folder)
        assert ended.code == 0, ended.log


def case(random: Random, baseline: Path, folder: Path) -> Outcome:
    shutil.copy2(baseline / "in.mp4", folder / "in.mp4")
    shutil.copytree(baseline / "frames", folder / "frames")
    (folder / "disk").mkdir()
    kind = random.choice(tuple(KINDS))
    return KINDS[kind](random, baseline, folder, random.choice(tuple(COMMANDS)))


def full_disk(random: Random, baseline: Path, folder: Path, output: str) -> Outcome:
    """A disk too small for the result, then enlarged."""
    size = int(2 ** random.uniform(13, 20))
    with mounted(folder / "disk", f"size={size}") as error:
        if error:
            return Outcome(kind=f"a full disk: skipped, {error}")
        ended = run(_command(output), folder=folder)
        fault = _fault(ended, folder, output)
        if not fault and ended.code and "space" not in ended.log:
            fault = f"names no cause: {ended.log.strip()[-160:]}"
        if ended.code:
            _mount("-o", "remount,size=100m", folder / "disk")
            fault = fault or _rerun_fault(baseline, folder, output)
    return _outcome("a full disk", ended, fault, f"{output} on {size} bytes")


def read_only(random: Random, baseline: Path, folder: Path, output: str) -> Outcome:
    """A read-only disk."""
    with mounted(folder / "disk", "ro") as error:
        if error:
            return Outcome(kind=f"a read-only disk: skipped, {error}")
        ended = run(_command(output), folder=folder)
    fault = _fault(ended, folder, output) or ("" if ended.code == 2 else f"exit code {ended.code}")
    return _outcome("a read-only disk", ended, fault, output)


def small_files(random: Random, baseline: Path, folder: Path, output: str) -> Outcome:
    """A limit of the file size."""
    size = int(2 ** random.uniform(8, 18))
    ended = start(_command(output), folder=folder, prepare=lambda: _limit(resource.RLIMIT_FSIZE, size)).wait()
    fault = _fault(ended, folder, output) or (_rerun_fault(baseline, folder, output) if ended.code else "")
    return _outcome("small files only", ended, fault, f"{output}, RLIMIT_FSIZE {size}")


def few_files(random: Random, baseline: Path, folder: Path, output: str) -> Outcome:
    """A limit of open files."""
    count = random.randrange(4, 30)
    ended = start(
        _command(output), folder=folder, prepare=lambda: _limit(resource.RLIMIT_NOFILE, count)
    ).wait()
    fault = _fault(ended, folder, output) or (_rerun_fault(baseline, folder, output) if ended.code else "")
    return _outcome("few open files", ended, fault, f"{output}, RLIMIT_NOFILE {count}")


def little_memory(random: Random, baseline: Path, folder: Path, output: str) -> Outcome:
    """A limit of the address space, from the start of the program on."""
    size = int(random.uniform(0.8e9, 4e9))
    limit: Callable[[], None] = lambda: _limit(resource.RLIMIT_AS, size)  # noqa: E731
    ended = start(_command(output), folder=folder, prepare=limit, fresh=True).wait()
    fault = _fault(ended, folder, output) or (_rerun_fault(baseline, folder, output) if ended.code else "")
    return _outcome("little memory", ended, fault, f"{output}, RLIMIT_AS {size / 1e6:.0f} MB")


KINDS: Mapping[str, Callable[[Random, Path, Path, str], Outcome]] = {
    "a full disk": full_disk,
    "a read-only disk": read_only,
    "small files only": small_files,
    "few open files": few_files,
    "little memory": little_memory,
}


@contextmanager
def mounted(mount_point: Path, options: str) -> Iterator[str]:
    """Mount a tmpfs; yields the error, empty on success: only an administrator may mount."""
    error = _mount("-t", "tmpfs", "-o", options, "tmpfs", mount_point)
    try:
        yield error
    finally:
        if not error:
            subprocess.run(["umount", mount_point], check=True)


def _mount(*words: str | Path) -> str:
    try:
        process = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error.strerror)
    return process.stderr.strip() and "this user may not mount"


def _limit(kind: int, value: int) -> None:
    resource.setrlimit(kind, (value, value))


def _command(output: str) -> tuple[str, ...]:
    return tuple(word.format(f"disk/{output}") for word in COMMANDS[output])


def _fault(ended: ProcessResult, folder: Path, output: str) -> str:
    """The violation: exit code 0 comes with the output, 2 without; no other files but resume data."""
    fault = message_fault(ended, names=NAMES) or verification_fault(ended.log)
    present = {path.name for path in (folder / "disk").iterdir()}
    state = {name for name in present if STATE.fullmatch(name)} if ended.code else set()
    if extra_files := present - state - ({output} if ended.code == 0 else set()):
        fault = fault or f"left behind: {', '.join(sorted(extra_files))}"
    return fault


def _rerun_fault(baseline: Path, folder: Path, output: str) -> str:
    ended = run(_command(output), folder=folder)
    fault = message_fault(ended, names=NAMES, allowed=(0,)) or _fault(ended, folder, output)
    fault = fault or _mismatch(baseline, folder, output)
    return fault and f"rerun: {fault}"


def _mismatch(baseline: Path, folder: Path, output: str) -> str:
    expected, actual = (root / "disk" / output for root in (baseline, folder))
    if expected.suffix in {".png", ".tif"}:
        return "" if expected.read_bytes() == actual.read_bytes() else "other bytes"
    return difference(probe_output(expected), probe_output(actual))


def _outcome(kind: str, ended: ProcessResult, fault: str, description: str) -> Outcome:
    return Outcome(
        kind=f"{kind}: {'refused' if ended.code else 'done'}",
        fault=fault,
        description=description,
        seconds=ended.seconds,
        peak_mb=ended.peak_mb,
    )
