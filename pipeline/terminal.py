"""What a command says to the person at the terminal: words, a progress bar, and errors as one sentence."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import typer

from ..data.errors import FreezeframeError, saying_memory_ran_out

if TYPE_CHECKING:
    from ..splatting.fit import Told
    from .progress import Advance


def say(text: str) -> None:
    """Tell the person; stdout is kept for results."""
    typer.echo(text, err=True)


@contextmanager
def bar(name: str, *, unit: str = "frame") -> Iterator[Advance]:
    """A progress bar on stderr, its ETA measured on work done: the first call tells what was there before."""
    from tqdm import tqdm

    with ExitStack() as stack:
        line: Any = None

        def advance(done: int, total: int | None) -> None:
            nonlocal line
            if line is None:
                drawn = tqdm(
                    desc=name, unit=unit, initial=done, total=total, file=sys.stderr, disable=None,
                    dynamic_ncols=True, unit_scale=unit == "B",
                )  # fmt: skip
                line = stack.enter_context(drawn)
                return
            line.total = total
            line.update(done)

        yield advance


@contextmanager
def errors(*, stopped: str = "stopped; no result was written") -> Iterator[None]:
    """One sentence and exit code 2 for what the user can mend; mistakes of our own stay tracebacks."""
    try:
        with saying_memory_ran_out():
            yield
    except FreezeframeError as error:
        say(f"freezeframe: {error}")
        raise typer.Exit(2) from error
    except BrokenPipeError:
        raise  # whoever reads our output has heard enough: no error of the user's
    except OSError as error:
        say(f"freezeframe: {_trouble(error)}")
        raise typer.Exit(2) from error
    except KeyboardInterrupt as stop:
        say(f"freezeframe: {stopped}")
        raise typer.Exit(130) from stop


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


@contextmanager
def fitting(name: str) -> Iterator[Callable[[Told], None]]:
    """A progress bar on stderr of a fit: share of the work, loss, and how well re-blurred frames agree."""
    from tqdm import tqdm

    with ExitStack() as stack:
        line: Any = None

        def tell(told: Told) -> None:
            nonlocal line
            if line is None:
                drawn = tqdm(
                    desc=name, total=100, file=sys.stderr, disable=None, dynamic_ncols=True,
                    bar_format="{l_bar}{bar}| [{elapsed}<{remaining}{postfix}]",
                )  # fmt: skip
                line = stack.enter_context(drawn)
            line.set_postfix_str(f"loss {told.loss:.4f}, re-blurred {told.psnr:.1f} dB", refresh=False)
            line.update(100 * told.progress - line.n)

        yield tell
