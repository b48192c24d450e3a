"""Errors of the system and of media libraries as one sentence about a file.

No library is imported here: importing this module is cheap, and handling an error allocates little memory.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EDQUOT, EFBIG, ENOSPC
from pathlib import Path
from typing import Any

from freezeframe.data.errors import FreezeframeError, UnreadableMedia, UnwritableOutput, is_out_of_memory

MAX_PIXELS = 178_956_970  # pixels of a photo: the limit of Pillow. Medium format has 151 million


@contextmanager
def translate_write_errors(path: Path) -> Iterator[None]:
    """Raise errors of the system or of FFmpeg in the block as an error about the output.

    Raises:
        UnwritableOutput: The block could not write `path`.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (ENOSPC, EDQUOT, EFBIG):
            raise UnwritableOutput(
                f"{path}: no space left on the disk; free some and rerun: finished work is kept"
            ) from error
        raise UnwritableOutput(f"{path}: cannot be written ({error.strerror or error})") from error
    except Exception as error:
        if not _is_ffmpeg_error(error):
            raise
        raise UnwritableOutput(f"{path}: cannot be encoded ({ffmpeg_message(error)})") from error


@contextmanager
def translate_read_errors(path: Path) -> Iterator[None]:
    """Raise errors of the system or of a photo library in the block as an error about the input.

    Raises:
        UnreadableMedia: The block could not read `path`.
    """
    try:
        yield
    except FreezeframeError:
        raise
    except FileNotFoundError as error:
        raise UnreadableMedia(f"{path}: there is no such file; check the spelling") from error
    except PermissionError as error:
        raise UnreadableMedia(f"{path}: no permission to read it; change its permissions") from error
    except Exception as error:  # decoders raise all kinds of errors on corrupt data
        if is_out_of_memory(error):
            raise
        raise _photo_error(path, error) from error


def too_many_pixels(path: Path) -> UnreadableMedia:
    """The error about a photo of more than MAX_PIXELS."""
    return UnreadableMedia(
        f"{path}: declares more than {MAX_PIXELS / 1e6:.0f} million pixels; crop or scale it down first"
    )


def ffmpeg_message(error: Exception) -> str:
    """The last line that FFmpeg logged about an error: more specific than its error code."""
    if not _is_ffmpeg_error(error):
        return str(error)
    log: Any = getattr(error, "log", None)
    log_entry = log[1] if log else None
    return str(log_entry[2]).strip() if log_entry else str(getattr(error, "strerror", error))


def _is_ffmpeg_error(error: Exception) -> bool:
    """Whether PyAV raised an error; it cannot have if it is not imported."""
    module: Any = sys.modules.get("av.error")
    return module is not None and isinstance(error, module.FFmpegError)


def _photo_error(path: Path, error: Exception) -> UnreadableMedia:
    module: Any = sys.modules.get("PIL.Image")
    if module is not None and isinstance(error, module.DecompressionBombError):
        return too_many_pixels(path)
    if module is not None and isinstance(error, module.UnidentifiedImageError):
        return UnreadableMedia(f"{path}: is not a photo of a kind that can be read; check that it opens")
    reason = " ".join(str(error).split())
    return UnreadableMedia(
        f"{path}: is cut off or damaged ({reason}); use another copy of it, or leave it out"
    )
