"""The exceptions of freezeframe.

    FreezeframeError            its text is one sentence for the user; the CLI prints it and exits with 2
    ├── UnreadableMedia         the input cannot be read as requested
    ├── UnwritableOutput        the output cannot be written as requested; nothing was changed
    ├── NoScene                 the clip cannot be reconstructed as one static scene
    └── MissingExtra            an optional package is not installed

Programming errors are ValueError and TypeError.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

# Messages of libraries that report a failed allocation as a plain RuntimeError: torch on the CPU and on a
# GPU, oneDNN (no memory for its compiled kernels), OpenVINO, OpenCV.
_OUT_OF_MEMORY_PHRASES = (
    "DefaultCPUAllocator",
    "can't alloc",
    "could not create a primitive",
    "out of memory",
    "bad_alloc",
    "Insufficient memory",
    "Cannot allocate memory",
    "Failed to allocate",
    "failed to map segment",
    "start new thread",
)


class FreezeframeError(Exception):
    """Root of all errors for the user. The text names the file, the position and the remedy."""


class UnreadableMedia(FreezeframeError):
    """The input is missing, damaged, empty, of an unsupported format or of changing size."""


class UnwritableOutput(FreezeframeError):
    """The output exists, is the input, exceeds the disk, or its format cannot hold the data."""


class NoScene(FreezeframeError):
    """The clip cannot be reconstructed as one static scene; the text says why."""


class MissingExtra(FreezeframeError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package} (extra `{extra}`); run: pip install {package}")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of any library reports a failed allocation, on any device."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return not isinstance(error, FreezeframeError) and any(
        phrase in str(error) for phrase in _OUT_OF_MEMORY_PHRASES
    )


@contextmanager
def translate_out_of_memory() -> Iterator[None]:
    """Raise a failed allocation of any library as FreezeframeError.

    Raises:
        FreezeframeError: The block ran out of memory.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise FreezeframeError(
            "there is not enough memory for this; close other programs, raise the limit that `ulimit -v`"
            " shows, or scale the images down first"
        ) from error
