"""From what the user typed to a Config, and back to a command line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from freezeframe.data.errors import FreezeframeError, UnwritableOutput
from freezeframe.data.media.files.publish import Claim, check_collisions, claim
from freezeframe.pipeline.config import Config, Preset, preset

MIN_BLUR_FLOOR_PX = 0.01  # pixels; what is blurred over less stands still


def configure(  # one for each field of Config that belongs to no stage
    name: Preset,
    /,
    *,
    strength: float,
    device: str,
    precision: Any,
    backend: Any = "auto",
    budget: float | None = None,
    **stages: Mapping[str, Any],
) -> Config:
    """The preset `name` with the given fields of its stages replaced; None keeps the preset's value."""
    config = preset(name)
    overrides = {
        "strength": strength, "device": device, "precision": precision, "backend": backend, "budget": budget
    }  # fmt: skip
    try:
        stage_configs = {stage: _replace(getattr(config, stage), fields) for stage, fields in stages.items()}
        return replace(config, **overrides, **stage_configs)
    except ValueError as error:
        raise FreezeframeError(f"{error}; see --help") from error


def to_command_line(**options: Any) -> list[str]:
    """The command line that says the same: `arguments(skip_damaged=True)` is `["--skip-damaged"]`."""
    line: list[str] = []
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            line.append(flag)
        elif value is not None and value is not False:
            line += [flag, str(value)]
    return line


def blur_limit_fields(min_blur_px: float | None) -> dict[str, float]:
    """Fields of GateConfig for a blur limit in pixels, not a share of the height; None keeps the preset.

    0 stands for every frame in which something moves.
    """
    return (
        {}
        if min_blur_px is None
        else {"local_blur": 0.0, "global_blur": 0.0, "min_blur_px": max(min_blur_px, MIN_BLUR_FLOOR_PX)}
    )


def network(name: str) -> Path | Literal["bundled", "none"]:
    """`--network` as a field of FuseConfig."""
    return name if name in {"bundled", "none"} else Path(name)  # type: ignore[return-value]


def claim_outputs(
    destinations: Mapping[str, Path | None],
    *,
    inputs: Iterable[Path] = (),
    output: Path | None = None,
    force: bool = False,
) -> dict[str, Claim]:
    """Learn before hours of work, not after, that a file beside the result cannot go where it should.

    Args:
        destinations: Where each goes, by the option that names it.
        inputs: What is read.
        output: The result itself, which none of them may be, or lie in.
        force: Replace files that are there now.
    """
    check_collisions({"the output": output, **destinations})
    paths = {option: path for option, path in destinations.items() if path is not None}
    return {option: claim(path, inputs=inputs, force=force, trial=True) for option, path in paths.items()}


def save_json(target: Claim | None, body: Mapping[str, Any], *, main_output: Path | None = None) -> None:
    """Write `body` where the user asked for it, all or nothing; a failure says that `main_output` is complete."""
    if target is None:
        return
    try:
        target.write((json.dumps(body, indent=2, default=str) + "\n").encode())
    except UnwritableOutput as error:
        note = f"; {main_output} itself is complete" if main_output else ""
        raise UnwritableOutput(f"{error}{note}") from error


def _replace(stage: Any, fields: Mapping[str, Any]) -> Any:
    return replace(stage, **{name: value for name, value in fields.items() if value is not None})
