"""Command-line options as a Config, and as a command line again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from freezeframe.data.errors import FreezeframeError
from freezeframe.data.media.files.preflight import check_collisions
from freezeframe.data.media.files.publish import Claim, claim
from freezeframe.pipeline.config import Config, Preset, preset

MIN_BLUR_FLOOR_PX = 0.01  # pixels; a smaller blur is no motion


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
    """The same options as a command line: `to_command_line(skip_damaged=True)` is `["--skip-damaged"]`."""
    line: list[str] = []
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            line.append(flag)
        elif value is not None and value is not False:
            line += [flag, str(value)]
    return line


def blur_limit_fields(min_blur_px: float | None) -> dict[str, float]:
    """Fields of GateConfig for a blur threshold in pixels, not as a fraction of the height.

    None keeps the preset; 0 selects every frame with motion.
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
    folders: Mapping[str, Path | None] = MappingProxyType({}),
    force: bool = False,
) -> dict[str, Claim]:
    """Check before hours of work, not after, that the files beside the result can be written.

    Args:
        destinations: The path of each file, by the option that names it.
        inputs: The files that are read.
        output: The main result; no destination may equal it or lie inside it.
        folders: The same for folders that the command claims itself, by the options that name them.
        force: Replace existing files.

    Returns:
        A claim by option, without the options that are None.

    Raises:
        UnwritableOutput: Two paths collide, or a file exists (without force) or cannot be written.
    """
    check_collisions({"the output": output, **destinations, **folders})
    paths = {option: path for option, path in destinations.items() if path is not None}
    return {option: claim(path, inputs=inputs, force=force, trial=True) for option, path in paths.items()}


def _replace(stage: Any, fields: Mapping[str, Any]) -> Any:
    return replace(stage, **{name: value for name, value in fields.items() if value is not None})
