"""Output of a command on the terminal: messages, results, a progress bar, and errors as one sentence."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from freezeframe.data.errors import FreezeframeError, translate_out_of_memory
from freezeframe.data.media.files.printable import printable
from freezeframe.pipeline.support.signals import exit_code, finish_interruptible, start_interruptible

from .progress_bar import LOG_INTERVAL_S, REFRESH_INTERVAL_S, BarDisplay, LineDisplay, ProgressMeter

if TYPE_CHECKING:
    from freezeframe.pipeline.support.progress import FitProgress, ProgressCallback

FIT_PERCENT = 100  # per cent


def print_message(text: str) -> None:
    """Print a message to stderr; stdout is for results."""
    bars = sys.modules.get("tqdm")  # a bar on the screen is cleared first
    with bars.tqdm.external_write_mode(sys.stderr) if bars else nullcontext():
        typer.echo(printable(text), err=True)


def print_result(text: str) -> None:
    """Print a text result to stdout."""
    typer.echo(printable(text).encode(sys.stdout.encoding or "utf-8", "backslashreplace"))


def print_path(path: Path) -> None:
    """Print the path of a result: its exact bytes into a pipe or file, a legible name on a terminal."""
    if sys.stdout.isatty():
        print_result(str(path))
    else:
        typer.echo(os.fsencode(path))


def progress_bar(name: str, *, unit: str = "frame", interval: float = LOG_INTERVAL_S) -> ProgressMeter:
    """Progress on stderr: a bar on a terminal, elsewhere a line every `interval` seconds."""
    name = printable(name)
    if sys.stderr.isatty():
        return ProgressMeter(BarDisplay(name, unit), interval=REFRESH_INTERVAL_S)
    return ProgressMeter(LineDisplay(name, unit, print_message), interval=interval)


@contextmanager
def errors(*, stopped: str | Callable[[], str] = "Stopped. No output written.") -> Iterator[None]:
    """Print errors that the user can fix as one sentence, with exit code 2; programming errors propagate.

    Args:
        stopped: The message after an interrupt by a signal.
    """
    start_interruptible()
    try:
        with translate_out_of_memory():
            yield
    except FreezeframeError as error:
        print_message(f"freezeframe: {' '.join(str(error).split())}")  # libraries break their lines
        raise typer.Exit(2) from error
    except BrokenPipeError:
        raise  # the reader of our output closed it: no error of the user
    except OSError as error:
        print_message(f"freezeframe: {_format_os_error(error)}")
        raise typer.Exit(2) from error
    except KeyboardInterrupt as stop:
        finish_interruptible()  # a second signal changes nothing
        print_message(f"freezeframe: {stopped if isinstance(stopped, str) else stopped()}")
        raise typer.Exit(exit_code(stop)) from stop
    finally:
        finish_interruptible()


def _format_os_error(error: OSError) -> str:
    """The path, the error of the operating system, and a remedy."""
    remedies = {
        errno.ENOSPC: "free some space and rerun",
        errno.EDQUOT: "free some space and rerun",
        errno.EACCES: "check the permissions",
        errno.EPERM: "check the permissions",
        errno.EROFS: "choose a folder that is writable",
        errno.ENOENT: "check the spelling",
    }
    filename = f"{error.filename}: " if error.filename else ""
    reason = (error.strerror or str(error) or type(error).__name__).lower()
    return f"{filename}{reason}; {remedies.get(error.errno or 0, 'check the disk and rerun')}"


def stage_progress(meter: ProgressCallback, stage: str) -> ProgressCallback:
    """A callback that shows the progress of the preparation `stage` on `meter`."""

    def on_progress(completed: int, total: int | None, _stage: str = "", eta: float | None = None, /) -> None:
        meter(completed, total, stage, eta)

    return on_progress


def fit_progress(meter: ProgressCallback) -> Callable[[FitProgress], None]:
    """A callback that shows the progress of a scene fit on `meter`, in per cent."""
    completed = 0

    def on_fit_progress(fit_state: FitProgress) -> None:
        nonlocal completed
        previous, completed = completed, round(FIT_PERCENT * fit_state.progress)
        # The first step may be that of an earlier run.
        meter(completed - previous, FIT_PERCENT, "fitting the scene")

    return on_fit_progress
