"""From what the user typed to a Config, and back to a command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from ..data.errors import FreezeframeError, UnwritableOutput
from .config import Config, Preset, preset

ANY = 0.01  # pixels; what is blurred over less stands still


def configure(  # one for each field of Config that belongs to no stage
    name: Preset,
    /,
    *,
    strength: float,
    device: str,
    precision: Any,
    budget: float | None = None,
    **stages: Mapping[str, Any],
) -> Config:
    """The preset `name` with the given fields of its stages replaced; None keeps the preset's value."""
    config = preset(name)
    whole = {"strength": strength, "device": device, "precision": precision, "budget": budget}
    try:
        changed = {stage: _replace(getattr(config, stage), fields) for stage, fields in stages.items()}
        return replace(config, **whole, **changed)
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


def pixels(least: float | None) -> dict[str, float]:
    """Fields of GateConfig for a blur limit in pixels, not a share of the height; None keeps the preset.

    0 stands for every frame in which something moves.
    """
    return {} if least is None else {"blur": 0.0, "wide_blur": 0.0, "least": max(least, ANY)}


def network(given: str) -> Path | Literal["shipped", "none"]:
    """`--network` as a field of FuseConfig."""
    return given if given in {"shipped", "none"} else Path(given)  # type: ignore[return-value]


def writable(*paths: Path | None) -> None:
    """Learn before hours of work, not after, that a JSON file cannot go where the user wants it."""
    for path in paths:
        if path is None:
            continue
        if path.is_dir():
            raise UnwritableOutput(f"{path}: is a folder; name a file")
        if not path.parent.is_dir():
            raise UnwritableOutput(f"{path}: there is no folder {path.parent}; create it first")
        # An earlier report may go, a clip named by mistake must not.
        if path.exists() and path.suffix.lower() != ".json":
            raise UnwritableOutput(f"{path}: exists already and is no .json file; choose another name")


def save_json(path: Path | None, body: Mapping[str, Any]) -> None:
    """Write `body` where the user asked for it, all or nothing."""
    if path is not None:
        from ..data.photos import save  # brings torch along, which a finished batch does not need

        save((json.dumps(body, indent=2, default=str) + "\n").encode(), path)


def _replace(stage: Any, fields: Mapping[str, Any]) -> Any:
    return replace(stage, **{name: value for name, value in fields.items() if value is not None})
