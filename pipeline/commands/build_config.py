"""From what the user typed to a Config, and back to a command line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from freezeframe.data.errors import FreezeframeError, UnwritableOutput
from freezeframe.data.media.files.publish import Claim, claim, refuse_collisions
from freezeframe.pipeline.config import Config, Preset, preset

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


def writable(
    wanted: Mapping[str, Path | None],
    *,
    inputs: Iterable[Path] = (),
    output: Path | None = None,
    force: bool = False,
) -> dict[str, Claim]:
    """Learn before hours of work, not after, that a file beside the result cannot go where it should.

    Args:
        wanted: Where each goes, by the option that names it.
        inputs: What is read.
        output: The result itself, which none of them may be, or lie in.
        force: Replace files that are there now.
    """
    refuse_collisions({"the output": output, **wanted})
    paths = {option: path for option, path in wanted.items() if path is not None}
    return {option: claim(path, inputs=inputs, force=force, trial=True) for option, path in paths.items()}


def save_json(place: Claim | None, body: Mapping[str, Any], *, beside: Path | None = None) -> None:
    """Write `body` where the user asked for it, all or nothing; a failure says that `beside` is complete."""
    if place is None:
        return
    try:
        place.write((json.dumps(body, indent=2, default=str) + "\n").encode())
    except UnwritableOutput as error:
        kept = f"; {beside} itself is complete" if beside else ""
        raise UnwritableOutput(f"{error}{kept}") from error


def _replace(stage: Any, fields: Mapping[str, Any]) -> Any:
    return replace(stage, **{name: value for name, value in fields.items() if value is not None})
