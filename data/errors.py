"""Every error that freezeframe raises on purpose.

    FreezeframeError            the text is one sentence for the user; the CLI prints it and exits with 2
    ├── UnreadableMedia         the input cannot be read as asked
    ├── UnwritableOutput        the output cannot be written as asked; nothing was changed
    ├── NoScene                 the footage cannot be rebuilt as one scene; frame by frame it still can
    └── MissingExtra            an optional package is needed

Programming errors stay ValueError and TypeError.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

# What libraries whose errors are plain RuntimeErrors say: torch on the CPU and on a GPU, oneDNN (whose
# compiled kernels find no place), OpenVINO, OpenCV.
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
    """Names the file, the place and the cure."""


class UnreadableMedia(FreezeframeError):
    """The input is not what it should be: not a video, damaged, empty, of changing size."""


class UnwritableOutput(FreezeframeError):
    """The output exists, is the input, has no room, or is of a kind that cannot hold what it must."""


class NoScene(FreezeframeError):
    """What was filmed cannot be rebuilt as one static scene, and why."""


class MissingExtra(FreezeframeError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package} (extra `{extra}`); run: pip install {package}")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no memory left, on any device, by whatever library."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return not isinstance(error, FreezeframeError) and any(
        phrase in str(error) for phrase in _OUT_OF_MEMORY_PHRASES
    )


@contextmanager
def translate_out_of_memory() -> Iterator[None]:
    """Turn what any library says when it gets no memory into one sentence."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise FreezeframeError(
            "there is not enough memory for this; close other programs, raise the limit that `ulimit -v`"
            " shows, or scale the pictures down first"
        ) from error
