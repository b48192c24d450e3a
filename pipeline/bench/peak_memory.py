"""The most memory that this process held while something ran."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak_memory() -> None:
    """Begin anew; where the system keeps no such mark, nothing happens."""
    with suppress(OSError):
        _CLEAR_REFS.write_text("5")


def peak_memory_mb() -> float | None:
    """Since `reset_peak_memory`, of the whole process. None where the system does not tell."""
    with suppress(OSError, StopIteration, ValueError):
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    return None
