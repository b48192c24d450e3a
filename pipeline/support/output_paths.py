"""Output paths of jobs with several inputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from freezeframe.data.errors import UnwritableOutput


def check_unique_outputs(outputs: Mapping[Path, Path]) -> None:
    """Refuse two inputs with one output: a.avi becomes a.avi.mkv, which may be another clip's name.

    Args:
        outputs: The output path by input path.

    Raises:
        UnwritableOutput: Two inputs have the same output.
    """
    sources: dict[Path, Path] = {}
    for source, output in outputs.items():
        other = sources.setdefault(output, source)
        if other != source:
            raise UnwritableOutput(
                f"{output}: both {other} and {source} would become this file; rename one of them"
            )
