"""Being stopped: by Ctrl-C, by a service manager, by a terminal that closes.

Once the work has begun, a signal raises `Interruption`. Before, and in the middle of an import, where exceptions
are swallowed or end in a traceback, it ends the process at once, in one sentence. Nothing heavy is imported.
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
PARENT_VARIABLE = "FREEZEFRAME_PARENT"  # in a child's environment: its standard input ends with its parent

_interruptible = _finished = False


class Interruption(KeyboardInterrupt):
    """A signal asked this process to stop. The work that is finished is kept, as after Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def install_handlers() -> None:
    """From now on signals end this command in a sentence, and a child ends with its parent."""
    if (processes := sys.modules.get("multiprocessing.process")) and processes.parent_process():
        return  # a helper of this command, which imports its main module again; its parent ends it
    for number in SIGNALS:
        # `nohup` and shells have some signals ignored, and that is to stay so.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _handle_signal)
    if os.environ.pop(PARENT_VARIABLE, None):
        threading.Thread(target=_end_with_parent, daemon=True, name="freezeframe-parent").start()


def start_interruptible() -> None:
    """The work begins: from now on there may be something to tidy up."""
    global _interruptible, _finished  # a process has one state, and a handler no arguments of its own
    _interruptible, _finished = True, False


def finish_interruptible() -> None:
    """The work is done, and what is left takes no time: nobody need be told of a signal any more."""
    global _finished  # noqa: PLW0603
    _finished = True


def exit_code(stop: KeyboardInterrupt) -> int:
    """What shells call the end by a signal: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + (stop.number if isinstance(stop, Interruption) else signal.SIGINT)


def interruption_message(output: Path) -> Callable[[], str]:
    """What a command that is stopped can truly say about its output, which is looked at then."""
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
    """Wait for the end of a pipe that nobody writes into: its other end closes when the parent dies."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)
