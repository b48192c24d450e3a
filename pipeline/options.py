"""From what the user typed to a Config, and back to a command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..data.errors import FreezeframeError, UnwritableOutput
from .config import Config, Preset, preset


def configure(
    name: Preset, /, *, strength: float, device: str, precision: Any, **stages: Mapping[str, Any]
) -> Config:
    """The preset `name` with the given fields of its stages replaced; None keeps the preset's value."""
    config = preset(name)
    try:
        changed = {stage: _replace(getattr(config, stage), fields) for stage, fields in stages.items()}
        return replace(config, strength=strength, device=device, precision=precision, **changed)
    except ValueError as wrong:
        raise FreezeframeError(f"{wrong}; see --help") from wrong


def arguments(**given: Any) -> list[str]:
    """The command line that says the same: `arguments(skip_damaged=True)` is `["--skip-damaged"]`."""
    line: list[str] = []
    for name, value in given.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            line.append(flag)
        elif value is not None and value is not False:
            line += [flag, str(value)]
    return line


def save(path: Path | None, body: Mapping[str, Any]) -> None:
    """Write `body` as JSON where the user asked for it."""
    if path is None:
        return
    try:
        path.write_text(json.dumps(body, indent=2, default=str) + "\n", encoding="utf-8")
    except OSError as failed:
        raise UnwritableOutput(
            f"{path}: cannot be written ({failed.strerror}); name another file"
        ) from failed


def _replace(stage: Any, fields: Mapping[str, Any]) -> Any:
    return replace(stage, **{name: value for name, value in fields.items() if value is not None})
