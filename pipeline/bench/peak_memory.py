"""The most memory that this process held while something ran."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_STATUS, _FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def forget_peak() -> None:
    """Begin anew; where the system keeps no such mark, nothing happens."""
    with suppress(OSError):
        _FORGET.write_text("5")


def peak_megabytes() -> float | None:
    """Since `forget_peak`, of the whole process. None where the system does not tell."""
    with suppress(OSError, StopIteration, ValueError):
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    return None
