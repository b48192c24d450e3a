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

from freezeframe.data.errors import FreezeframeError, saying_memory_ran_out
from freezeframe.data.media.files.printable import printable
from freezeframe.pipeline.support.signals import begin, end, exit_code

from .progress_bar import BLINK, EVERY, Bars, Lines, Meter

if TYPE_CHECKING:
    from freezeframe.pipeline.support.progress import Advance
    from freezeframe.splatting.optim.optimizer import Told

FIT_PARTS = 100  # per cent


def say(text: str) -> None:
    """Tell the person; stdout is kept for results."""
    bars = sys.modules.get("tqdm")  # a bar that is being drawn makes room
    with bars.tqdm.external_write_mode(sys.stderr) if bars else nullcontext():
        typer.echo(printable(text), err=True)


def show(text: str) -> None:
    """Print a result that is text."""
    typer.echo(printable(text).encode(sys.stdout.encoding or "utf-8", "backslashreplace"))


def answer(path: Path) -> None:
    """Print the path of a result: the very bytes of its name for a script, a legible name for a person."""
    if sys.stdout.isatty():
        show(str(path))
    else:
        typer.echo(os.fsencode(path))


def bar(name: str, *, unit: str = "frame", every: float = EVERY) -> Meter:
    """Progress on stderr: a bar on a terminal, elsewhere a line after `every` so many seconds."""
    name = printable(name)
    if sys.stderr.isatty():
        return Meter(Bars(name, unit), every=BLINK)
    return Meter(Lines(name, unit, say), every=every)


@contextmanager
def errors(*, stopped: str | Callable[[], str] = "Stopped. No output written.") -> Iterator[None]:
    """One sentence and exit code 2 for what the user can mend; mistakes of our own stay tracebacks."""
    begin()
    try:
        with saying_memory_ran_out():
            yield
    except FreezeframeError as error:
        say(f"freezeframe: {' '.join(str(error).split())}")  # libraries break their lines
        raise typer.Exit(2) from error
    except BrokenPipeError:
        raise  # whoever reads our output has heard enough: no error of the user's
    except OSError as error:
        say(f"freezeframe: {_trouble(error)}")
        raise typer.Exit(2) from error
    except KeyboardInterrupt as stop:
        end()  # once more changes nothing
        say(f"freezeframe: {stopped if isinstance(stopped, str) else stopped()}")
        raise typer.Exit(exit_code(stop)) from stop
    finally:
        end()


def _trouble(error: OSError) -> str:
    """What the system refused, where, and what helps."""
    cures = {
        errno.ENOSPC: "free some space and rerun",
        errno.EDQUOT: "free some space and rerun",
        errno.EACCES: "check the permissions",
        errno.EPERM: "check the permissions",
        errno.EROFS: "choose a place that can be written to",
        errno.ENOENT: "check the spelling",
    }
    place = f"{error.filename}: " if error.filename else ""
    what = (error.strerror or str(error) or type(error).__name__).lower()
    return f"{place}{what}; {cures.get(error.errno or 0, 'check the disk and rerun')}"


def staged(meter: Advance, stage: str) -> Advance:
    """Progress of a stage before the work, on the bar of the work."""

    def advance(done: int, total: int | None, _stage: str = "", left: float | None = None, /) -> None:
        meter(done, total, stage, left)

    return advance


def fitting(meter: Advance) -> Callable[[Told], None]:
    """Progress of a fit, as a stage: the share of the work that is done."""
    reached = 0

    def tell(told: Told) -> None:
        nonlocal reached
        before, reached = reached, round(FIT_PARTS * told.progress)
        meter(reached - before, FIT_PARTS, "fitting the scene")  # the first part may be an earlier run's

    return tell
