"""What a command says to the person at the terminal: words, a progress bar, and errors as one sentence."""

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
    """Tell the person; stdout is kept for results."""
    bars = sys.modules.get("tqdm")  # a bar that is being drawn makes room
    with bars.tqdm.external_write_mode(sys.stderr) if bars else nullcontext():
        typer.echo(printable(text), err=True)


def print_result(text: str) -> None:
    """Print a result that is text."""
    typer.echo(printable(text).encode(sys.stdout.encoding or "utf-8", "backslashreplace"))


def print_path(path: Path) -> None:
    """Print the path of a result: the very bytes of its name for a script, a legible name for a person."""
    if sys.stdout.isatty():
        print_result(str(path))
    else:
        typer.echo(os.fsencode(path))


def progress_bar(name: str, *, unit: str = "frame", interval: float = LOG_INTERVAL_S) -> ProgressMeter:
    """Progress on stderr: a bar on a terminal, elsewhere a line after `interval` so many seconds."""
    name = printable(name)
    if sys.stderr.isatty():
        return ProgressMeter(BarDisplay(name, unit), interval=REFRESH_INTERVAL_S)
    return ProgressMeter(LineDisplay(name, unit, print_message), interval=interval)


@contextmanager
def errors(*, stopped: str | Callable[[], str] = "Stopped. No output written.") -> Iterator[None]:
    """One sentence and exit code 2 for what the user can mend; mistakes of our own stay tracebacks."""
    start_interruptible()
    try:
        with translate_out_of_memory():
            yield
    except FreezeframeError as error:
        print_message(f"freezeframe: {' '.join(str(error).split())}")  # libraries break their lines
        raise typer.Exit(2) from error
    except BrokenPipeError:
        raise  # whoever reads our output has heard enough: no error of the user's
    except OSError as error:
        print_message(f"freezeframe: {_format_os_error(error)}")
        raise typer.Exit(2) from error
    except KeyboardInterrupt as stop:
        finish_interruptible()  # once more changes nothing
        print_message(f"freezeframe: {stopped if isinstance(stopped, str) else stopped()}")
        raise typer.Exit(exit_code(stop)) from stop
    finally:
        finish_interruptible()


def _format_os_error(error: OSError) -> str:
    """What the system refused, where, and what helps."""
    remedies = {
        errno.ENOSPC: "free some space and rerun",
        errno.EDQUOT: "free some space and rerun",
        errno.EACCES: "check the permissions",
        errno.EPERM: "check the permissions",
        errno.EROFS: "choose a place that can be written to",
        errno.ENOENT: "check the spelling",
    }
    filename = f"{error.filename}: " if error.filename else ""
    what = (error.strerror or str(error) or type(error).__name__).lower()
    return f"{filename}{what}; {remedies.get(error.errno or 0, 'check the disk and rerun')}"


def stage_progress(meter: ProgressCallback, stage: str) -> ProgressCallback:
    """Progress of a stage before the work, on the bar of the work."""

    def on_progress(completed: int, total: int | None, _stage: str = "", eta: float | None = None, /) -> None:
        meter(completed, total, stage, eta)

    return on_progress


def fit_progress(meter: ProgressCallback) -> Callable[[FitProgress], None]:
    """Progress of a fit, as a stage: the share of the work that is done."""
    completed = 0

    def on_fit_progress(fit_state: FitProgress) -> None:
        nonlocal completed
        previous, completed = completed, round(FIT_PERCENT * fit_state.progress)
        meter(
            completed - previous, FIT_PERCENT, "fitting the scene"
        )  # the first part may be an earlier run's

    return on_fit_progress
