"""The cache folder: downloaded weights and measured settings, which can be recreated."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def cache_dir() -> Path | None:
    """`freezeframe` in the user's cache folder (XDG_CACHE_HOME); None for a user without a home folder."""
    with contextlib.suppress(RuntimeError):
        cache = os.environ.get("XDG_CACHE_HOME")
        return (Path(cache) if cache else Path.home() / ".cache") / "freezeframe"
    return None
