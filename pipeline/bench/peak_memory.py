"""Peak memory of this process (Linux)."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak_memory() -> None:
    """Reset the peak; without effect on systems that do not record it."""
    with suppress(OSError):
        _CLEAR_REFS.write_text("5")


def peak_memory_mb() -> float | None:
    """Peak resident memory since `reset_peak_memory`, in MiB; None if the system does not record it."""
    with suppress(OSError, StopIteration, ValueError):
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    return None
