"""Too little disk, memory, files or rights: one sentence, nothing half done, and the rerun ends the work."""

from __future__ import annotations

import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random

from freezeframe.tests.campaigns.process import ProcessResult, fork, run, start
from freezeframe.tests.campaigns.promises import STATE, Outcome, message_fault, verification_fault
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
NAMES = ("in.mp4", "frames", "place")


def prepare(folder: Path) -> None:
    """A clip, a folder of images, and what each command makes of them where nothing is short."""

    def write() -> None:
        write_clip(folder / "in.mp4", frames=12)
        write_folder(folder / "frames", frames=8)

    assert not fork(write, folder=folder).wait().code
    (folder / "place").mkdir()
    for output in COMMANDS:
        ended = run(_command(output), folder=folder)
        assert ended.code == 0, ended.log


def case(random: Random, baseline: Path, folder: Path) -> Outcome:
    shutil.copy2(baseline / "in.mp4", folder / "in.mp4")
    shutil.copytree(baseline / "frames", folder / "frames")
    (folder / "place").mkdir()
    kind = random.choice(tuple(KINDS))
    return KINDS[kind](random, baseline, folder, random.choice(tuple(COMMANDS)))


def full_disk(random: Random, baseline: Path, folder: Path, output: str) -> Outcome:
    """A disk too small for the result, then made larger."""
    size = int(2 ** random.uniform(13, 20))
    with mounted(folder / "place", f"size={size}") as refused:
        if refused:
            return Outcome(kind=f"a full disk: not tried, {refused}")
        ended = run(_command(output), folder=folder)
        fault = _fault(ended, folder, output)
        if not fault and ended.code and "space" not in ended.log:
            fault = f"names no cause: {ended.log.strip()[-160:]}"
        if ended.code:
            _mount("-o", "remount,size=100m", folder / "place")
            fault = fault or _rerun_fault(baseline, folder, output)
    return _outcome("a full disk", ended, fault, f"{output} on {size} bytes")


def read_only(random: Random, baseline: Path, folder: Path, output: str) -> Outcome:
    """A disk that may not be written to."""
    with mounted(folder / "place", "ro") as refused:
        if refused:
            return Outcome(kind=f"a read-only disk: not tried, {refused}")
        ended = run(_command(output), folder=folder)
    fault = _fault(ended, folder, output) or ("" if ended.code == 2 else f"exit code {ended.code}")
    return _outcome("a read-only disk", ended, fault, output)


def small_files(random: Random, baseline: Path, folder: Path, output: str) -> Outcome:
    """No file may be larger than so many bytes."""
    size = int(2 ** random.uniform(8, 18))
    ended = start(_command(output), folder=folder, prepare=lambda: _limit(resource.RLIMIT_FSIZE, size)).wait()
    fault = _fault(ended, folder, output) or (_rerun_fault(baseline, folder, output) if ended.code else "")
    return _outcome("small files only", ended, fault, f"{output}, RLIMIT_FSIZE {size}")


def few_files(random: Random, baseline: Path, folder: Path, output: str) -> Outcome:
    """So many files may be open at once."""
    count = random.randrange(4, 30)
    ended = start(
        _command(output), folder=folder, prepare=lambda: _limit(resource.RLIMIT_NOFILE, count)
    ).wait()
    fault = _fault(ended, folder, output) or (_rerun_fault(baseline, folder, output) if ended.code else "")
    return _outcome("few open files", ended, fault, f"{output}, RLIMIT_NOFILE {count}")


def little_memory(random: Random, baseline: Path, folder: Path, output: str) -> Outcome:
    """So many bytes of address space, from the start of the program on."""
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
def mounted(place: Path, options: str) -> Iterator[str]:
    """A disk of its own at `place`; or why there is none: only an administrator may mount."""
    refused = _mount("-t", "tmpfs", "-o", options, "tmpfs", place)
    try:
        yield refused
    finally:
        if not refused:
            subprocess.run(["umount", place], check=True)


def _mount(*words: str | Path) -> str:
    try:
        done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error.strerror)
    return done.stderr.strip() and "this user may not mount"


def _limit(what: int, most: int) -> None:
    resource.setrlimit(what, (most, most))


def _command(output: str) -> tuple[str, ...]:
    return tuple(word.format(f"place/{output}") for word in COMMANDS[output])


def _fault(ended: ProcessResult, folder: Path, output: str) -> str:
    """Exit 0 with the output or 2 without; nothing besides but what a resume needs."""
    fault = message_fault(ended, names=NAMES) or verification_fault(ended.log)
    there = {path.name for path in (folder / "place").iterdir()}
    state = {name for name in there if STATE.fullmatch(name)} if ended.code else set()
    if extra_files := there - state - ({output} if ended.code == 0 else set()):
        fault = fault or f"left in place although it failed: {', '.join(sorted(extra_files))}"
    return fault


def _rerun_fault(baseline: Path, folder: Path, output: str) -> str:
    ended = run(_command(output), folder=folder)
    fault = message_fault(ended, names=NAMES, allowed=(0,)) or _fault(ended, folder, output)
    fault = fault or _mismatch(baseline, folder, output)
    return fault and f"rerun: {fault}"


def _mismatch(baseline: Path, folder: Path, output: str) -> str:
    ours, theirs = (root / "place" / output for root in (baseline, folder))
    if ours.suffix in {".png", ".tif"}:
        return "" if ours.read_bytes() == theirs.read_bytes() else "other bytes"
    return difference(probe_output(ours), probe_output(theirs))


def _outcome(kind: str, ended: ProcessResult, fault: str, description: str) -> Outcome:
    how = "refused" if ended.code else "done"
    return Outcome(
        kind=f"{kind}: {how}",
        fault=fault,
        description=description,
        seconds=ended.seconds,
        peak_mb=ended.peak_mb,
    )
