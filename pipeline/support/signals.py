"""Signals: Ctrl-C, SIGTERM of a service manager, SIGHUP of a closed terminal.

After `start_interruptible` a signal raises `Interruption`. Before it, and during an import, where an
exception is swallowed or ends in a traceback, a signal ends the process at once with one sentence. No library
is imported.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
PARENT_VARIABLE = (
    "FREEZEFRAME_PARENT"  # set in a child process; its standard input closes when the parent ends
)

_interruptible = _finished = False


class Interruption(KeyboardInterrupt):
    """A signal stopped this process. Finished work is kept, as after Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def install_handlers() -> None:
    """Handle signals, and end a child process when its parent ends."""
    if (processes := sys.modules.get("multiprocessing.process")) and processes.parent_process():
        return  # a worker process imports the main module again; its parent ends it
    for number in SIGNALS:
        # `nohup` and shells ignore some signals; keep that.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _handle_signal)
    if os.environ.pop(PARENT_VARIABLE, None):
        threading.Thread(target=_end_with_parent, daemon=True, name="freezeframe-parent").start()


def start_interruptible() -> None:
    """Let signals raise `Interruption`: from here on there may be something to clean up."""
    global _interruptible, _finished  # one state per process; a handler takes no arguments
    _interruptible, _finished = True, False


def finish_interruptible() -> None:
    """Ignore signals after the work: the rest takes no time."""
    global _finished  # noqa: PLW0603
    _finished = True


def exit_code(stop: KeyboardInterrupt) -> int:
    """Exit code of a stopped process, as in shells: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + (stop.number if isinstance(stop, Interruption) else signal.SIGINT)


def interruption_message(output: Path) -> Callable[[], str]:
    """Function that describes the state of `output` after an interruption."""
    before = _change_time(output)

    def message() -> str:
        work_folder = output.with_name(f".{output.name}.freezeframe")
        if work_folder.exists():
            return f"Stopped. No output written; rerun the same command to resume (kept in {work_folder})."
        if _change_time(output) != before:
            return f"Stopped. {output} is complete."
        return "Stopped. No output written, and nothing was finished yet that could be kept."

    return message


def _change_time(path: Path) -> int | None:
    try:
        return path.stat().st_ctime_ns
    except OSError:
        return None


def _handle_signal(number: int, frame: FrameType | None) -> None:
    if _finished:
        return
    if _interruptible and not _importing(frame):
        raise Interruption(number)
    os.write(2, b"freezeframe: Stopped. No output written.\n")
    os._exit(128 + number)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _end_with_parent() -> None:
    """Wait for the end of a pipe without data: its other end closes when the parent ends."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)
