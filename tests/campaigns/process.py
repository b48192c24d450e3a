"""The command in a process of its own, with its exit code, output, time and memory.

A fork of this process, which has loaded the libraries, saves three seconds of imports per case. A `fresh`
process starts Python as a user does, for tests of the start itself.
"""

from __future__ import annotations

import atexit
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMAND = ROOT / "cli.py"
TIMEOUT_S = 240.0  # seconds of wall time, on a busy machine
CPU_LIMIT_S = 90  # seconds of CPU time; a case needs one or two
MEMORY_LIMIT_MB = 2500.0  # megabytes; the libraries alone take 300
_PAUSE = 0.02  # seconds between two polls of a process


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessResult:
    """Result of a process."""

    code: int  # the exit code, or minus the signal that ended it
    log: str  # stdout and stderr
    seconds: float  # wall time
    work: float  # seconds of CPU time, with its children
    peak_mb: float  # megabytes
    stop_reason: str = ""  # the limit that it exceeded


class Running:
    """A running process."""

    def __init__(self, pid: int, log: Path, folder: Path) -> None:
        self.pid, self._log, self._folder, self._start_time = pid, log, folder, time.monotonic()
        self._ended: ProcessResult | None = None

    def send(self, number: signal.Signals) -> None:
        if self._ended is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def ended_within(self, seconds: float) -> bool:
        """Whether it ends by itself in that time."""
        until = time.monotonic() + seconds
        while not self._poll() and time.monotonic() < until:
            time.sleep(min(_PAUSE, max(0.0, until - time.monotonic())))
        return self._ended is not None

    def ended_before(self, work: float) -> bool:
        """Whether it ends before it and its children have used `work` seconds of CPU time."""
        while not self._poll() and _work_in(self.pid, self._folder) < work:
            time.sleep(_PAUSE)
        return self._ended is not None

    def wait(self, timeout_s: float = TIMEOUT_S) -> ProcessResult:
        """Wait for the end; stop the process if it exceeds its time or memory."""
        reason = ""
        while not self._poll():
            if time.monotonic() - self._start_time > timeout_s:
                reason = f"was still running after {timeout_s:.0f} s"
            elif _resident(self.pid) > MEMORY_LIMIT_MB:
                reason = f"took more than {MEMORY_LIMIT_MB:.0f} MB"
            if reason:
                self.send(signal.SIGKILL)
            time.sleep(_PAUSE)
        assert self._ended is not None
        return self._ended if not reason else _with_reason(self._ended, reason)

    def wait_for(self, seconds: float) -> ProcessResult:
        """Wait for `seconds` from now."""
        return self.wait(time.monotonic() - self._start_time + seconds)

    def _poll(self) -> bool:
        if self._ended is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self._ended = ProcessResult(
                    code=os.waitstatus_to_exitcode(status),
                    log=self._log.read_text(errors="replace"),
                    seconds=time.monotonic() - self._start_time,
                    work=usage.ru_utime + usage.ru_stime,
                    peak_mb=usage.ru_maxrss / 1024,
                )
        return self._ended is not None


def nothing() -> None:
    """No preparation."""


def preload() -> None:
    """Load the modules of the command, for its forks; nothing is computed, so that no thread starts."""
    os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "1"
    from freezeframe import cli
    from freezeframe.models.registry import bundled
    from freezeframe.pipeline import api
    from freezeframe.pipeline.commands.terminal import build_config
    from freezeframe.pipeline.tasks import batch
    from freezeframe.pipeline.tasks.probe import run as probe
    from freezeframe.pipeline.tasks.restore import run as restore

    assert all((cli, bundled, api, batch, build_config, probe, restore))
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a fork of several threads may hang"


def start(
    arguments: Sequence[str | Path],
    *,
    folder: Path,
    prepare: Callable[[], None] = nothing,
    fresh: bool = False,
) -> Running:
    """Run `freezeframe` with `arguments` inside `folder`; its output goes into a log beside the folder."""
    words = [str(argument) for argument in arguments]
    log = _log(folder)
    if not fresh:
        return fork(lambda: _command(words), folder=folder, prepare=prepare)
    with log.open("wb") as file:
        child = subprocess.Popen(
            [sys.executable, COMMAND, *words], cwd=folder, stdin=subprocess.DEVNULL, stdout=file,
            stderr=subprocess.STDOUT, start_new_session=True,
            preexec_fn=lambda: _prepared(prepare),  # noqa: PLW1509  # there is one thread
        )  # fmt: skip
    child.returncode = 0  # the caller waits for its process id, not for Popen
    return Running(child.pid, log, folder)


def fork(call: Callable[[], object], *, folder: Path, prepare: Callable[[], None] = nothing) -> Running:
    """Run a function in a child process with its own session, inside `folder`."""
    log = _log(folder)
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        _child(call, folder, log, prepare)
    return Running(pid, log, folder)


def run(arguments: Sequence[str | Path], *, folder: Path, fresh: bool = False) -> ProcessResult:
    """`start` and wait."""
    return start(arguments, folder=folder, fresh=fresh).wait()


def alive_in(folder: Path) -> list[int]:
    """Ids of the processes with a working directory inside `folder`."""
    numbers = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [number for number in numbers if _works_in(number, folder)]


def _works_in(pid: int, folder: Path) -> bool:
    with suppress(OSError):
        directory = os.readlink(f"/proc/{pid}/cwd")  # noqa: PTH115  # the process may be gone
        return f"{directory}/".startswith(f"{folder}/")
    return False


def _log(folder: Path) -> Path:
    number = sum(1 for _ in folder.parent.glob(f"{folder.name}.*.log"))
    return folder.with_name(f"{folder.name}.{number}.log")


def _prepared(prepare: Callable[[], None]) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S + 5))
    # Shells make background processes ignore SIGINT, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    prepare()


def _command(words: Sequence[str]) -> None:
    from freezeframe import cli
    from freezeframe.pipeline.support.signals import install_handlers

    sys.argv = ["freezeframe", *words]
    install_handlers()
    cli.main()


def _child(call: Callable[[], object], folder: Path, log: Path, prepare: Callable[[], None]) -> None:
    """Never returns: the stack below belongs to the parent."""
    code = 70
    try:
        os.setsid()
        os.chdir(folder)
        for number, file in (
            (0, os.open(os.devnull, os.O_RDONLY)),
            (1, os.open(log, os.O_CREAT | os.O_WRONLY)),
        ):
            os.dup2(file, number)
        os.dup2(1, 2)
        _prepared(prepare)
        code = _code_of(call)
        threading._shutdown()  # type: ignore[attr-defined]  # as the interpreter does at its end
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _code_of(call: Callable[[], object]) -> int:
    try:
        call()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # as the interpreter does with an uncaught exception
        traceback.print_exc()
        return 1
    return 0


def _work_in(pid: int, folder: Path) -> float:
    """CPU seconds of a process, of its ended children and of the other processes in `folder`."""
    return _work(pid, ended_children=True) + sum(_work(other) for other in alive_in(folder) if other != pid)


def _work(pid: int, *, ended_children: bool = False) -> float:
    with suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11 : 15 if ended_children else 13])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _resident(pid: int) -> float:
    with suppress(OSError, ValueError, IndexError):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20
    return 0.0


def _with_reason(ended: ProcessResult, reason: str) -> ProcessResult:
    return replace(ended, stop_reason=reason)
